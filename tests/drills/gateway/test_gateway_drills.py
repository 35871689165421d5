"""The gateway's drills in short, over one gateway in this process, and that they find what they look for."""

import asyncio
import copy

import psutil
import pytest

from serving.gateway.config import GatewayConfig
from serving.gateway.http_server import GatewayServer
from serving.release.labels import promote
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
from tests.drills.gateway.fuzz_bodies import JSON, Body
from tests.drills.gateway.fuzz_gateway import run_chunk
from tests.drills.gateway.fuzz_target import FuzzTarget
from tests.drills.gateway.http_load import Answer
from tests.drills.gateway.overload import Overload
from tests.drills.gateway.overload import drill as overload
from tests.drills.gateway.release_switch import LABEL, expected_answers, is_of_its_release, mover
from tests.drills.gateway.release_switch import drill as switch
from tests.drills.gateway.schemathesis_tool import run_schemathesis
from tests.drills.gateway.stand import make_releases

PATIENT = {f"{stage}_ms": 15_000 for stage in ("lookup", "retrieve", "coarse", "fine", "explain")}


@pytest.fixture(scope="module")
def two_releases(cascade_work, tmp_path_factory):
    """A serving root whose label names the first of two releases, and their ids."""
    root = tmp_path_factory.mktemp("drills") / "serving"
    found = [release.id for release in make_releases(cascade_work, root)]
    promote(str(root), found[0], LABEL, by="test")
    return root, found


@pytest.fixture(scope="module")
def models(two_releases):
    """Address of a server that serves what the label names, and for long what it named before."""
    config = ServeConfig(
        root=str(two_releases[0]), labels=(LABEL, "latest"), port=0, rest_port=None, warmup=False, poll_s=0.1
    )
    with ModelServer(config) as server:
        yield f"127.0.0.1:{server.grpc_port}"


@pytest.fixture(scope="module")
def gateway(two_releases, models):
    """A gateway on a port, that waits as long as a busy machine takes."""
    config = GatewayConfig(
        root=str(two_releases[0]), label=LABEL, server=models, port=0, deadline_ms=60_000, deadlines=PATIENT, poll_s=0.1
    )
    with GatewayServer(config) as server:
        assert server.wait_until_ready(60) == []
        yield server


def test_any_bodies_find_nothing(gateway):
    found = run_chunk(FuzzTarget(gateway.port), number=1_000_000, count=600)
    assert found["fault"] == "" and found["bodies"] > 400
    ended = {each.rpartition(" ")[2] for each in found["ended"]}
    assert {"200", "400", "422", "415"} <= ended, found["ended"]


def test_a_defect_is_found(gateway, monkeypatch):
    async def broken(request):
        raise KeyError("defect")

    monkeypatch.setattr(gateway.gateway, "recommend", broken)
    with pytest.raises(AssertionError, match="HTTP 500"):
        FuzzTarget(gateway.port).send(Body("/v1/recommend", JSON, b"{}"))


@pytest.mark.slow
def test_the_interface_is_as_its_page_says(gateway):
    told, failed = run_schemathesis(gateway.url, 30)
    assert not failed, told


def test_releases_switch_and_roll_back_under_load(gateway, two_releases):
    root, releases = two_releases
    told = []
    given = asyncio.run(switch(gateway.port, releases, mover(root, releases), switches=2, callers=2, say=told.append))
    assert len(told) == 2 and min(given[release] for release in releases) >= 3


def test_an_answer_that_mixes_releases_is_found(gateway, two_releases):
    from tests.drills.gateway.http_load import Caller
    from tests.drills.gateway.release_switch import body_of

    async def ask():
        caller = Caller(gateway.port)
        expected = await expected_answers(caller, two_releases[1], mover(*two_releases))
        answer = await caller.post("/v1/recommend", body_of("u0000001"))
        await caller.close()
        return expected, answer

    expected, answer = asyncio.run(ask())
    assert is_of_its_release(answer, "u0000001", expected)
    other = next(each for each in two_releases[1] if each != answer.body["release"])
    renamed = answer._replace(body=answer.body | {"release": other})
    assert not is_of_its_release(renamed, "u0000001", expected)
    mixed = copy.deepcopy(answer.body)
    mixed["items"][0]["stages"]["coarse"]["score"] += 0.01
    assert not is_of_its_release(answer._replace(body=mixed), "u0000001", expected)


def test_four_times_the_capacity_is_answered_or_refused(two_releases, models):
    """How fast this is depends on the machine: that every request ends as it should does not."""
    config = GatewayConfig(
        root=str(two_releases[0]), label=LABEL, server=models, port=0, deadline_ms=5000, max_concurrent=2, max_waiting=2
    )
    memory = psutil.Process().memory_info
    with GatewayServer(config) as server:
        assert server.wait_until_ready(60) == []
        found = asyncio.run(overload(server.port, lambda: memory().rss, 2, seconds=3.0, measured_s=1.0))
    assert found.statuses[200] > 0 and found.statuses[429] > 0
    assert set(found.statuses) <= {200, 429, 503, 504} and len(found.resident) > 3
    assert "memory" in found.told()


def test_a_refusal_without_a_word_is_found():
    empty = {"error": {"code": "too_many_requests", "message": "", "problems": []}}
    for answer in (
        Answer(429, empty, 0.1, True),
        Answer(500, {"error": {"code": "defect", "message": "x", "problems": []}}, 0.1, False),
        Answer(200, {"items": [], "release": "r"}, 0.1, False),
    ):
        with pytest.raises(AssertionError):
            Overload().note(answer)
