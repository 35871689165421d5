"""Releases are followed, swapped whole, held while they are used, and asked side by side."""

import asyncio
import contextlib

import pytest

from serving.gateway.refusal import GatewayError
from serving.gateway.schema import Flag, RankRequest, RecommendRequest
from serving.release.labels import promote
from serving.release.manifest import ReleasedModel
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
from tests.serving.gateway import gateway_case
from tests.serving.server.serving_case import eventually


@pytest.fixture(scope="module")
def two(cascade_work, tmp_path_factory):
    """A root with two releases of other versions, labelled `stable` and `canary`, and a server of both."""
    root = tmp_path_factory.mktemp("releases") / "serving"
    made = []
    for version in (1, 2):
        models = gateway_case.push_models(cascade_work, root, version)
        made.append(gateway_case.publish(cascade_work, root, models))
    promote(root, made[0].id, "stable")
    promote(root, made[1].id, "canary")
    config = ServeConfig(
        root=str(root), labels=("stable", "canary"), port=0, rest_port=None, warmup=False, poll_s=0.05, linger_s=0
    )
    with ModelServer(config) as server:
        yield root, [release.id for release in made], f"127.0.0.1:{server.grpc_port}"


@pytest.fixture
def following(two, open_gateway):
    """A gateway of what is stable, behind a server that tells what it was asked."""
    root, ids, address = two
    promote(root, ids[0], "stable")
    promote(root, ids[1], "canary")
    with (
        gateway_case.faulty(address) as (server, behind),
        open_gateway(behind, root=str(root), label="stable") as opened,
    ):
        eventually(lambda: opened.ready() == [], "the gateway is ready")
        yield opened, server


def test_a_label_that_moves_is_followed(two, following, on_loop):
    (root, ids, _), (gateway, server) = two, following
    assert gateway.release == ids[0] and on_loop(gateway.recommend(RecommendRequest())).release == ids[0]
    before = gateway._releases.followed
    promote(root, ids[1], "stable")
    eventually(lambda: gateway.release == ids[1], "the gateway follows")
    server.calls.clear()
    answer = on_loop(gateway.recommend(RecommendRequest(explain=True)))
    assert answer.release == ids[1] and answer.flags == [Flag.UNKNOWN_USER]
    assert {version for _, version, _ in server.calls} == {2} and len(server.calls) == 4
    with pytest.raises(Exception, match="was closed"):
        before.tables.get("u1")
    promote(root, ids[0], "stable")
    eventually(lambda: gateway.release == ids[0], "and back")
    assert on_loop(gateway.recommend(RecommendRequest())).flags == [Flag.UNKNOWN_USER]


def test_a_request_keeps_its_release_while_the_label_moves(two, following, on_loop):
    (root, ids, _), (gateway, server) = two, following
    server.faults = {"two_tower": "freeze"}
    server.calls.clear()
    pending = asyncio.run_coroutine_threadsafe(gateway.recommend(RecommendRequest()), on_loop.loop)
    eventually(lambda: server.calls, "the retrieval is asked")
    view = gateway._releases.followed
    promote(root, ids[1], "stable")
    eventually(lambda: gateway.release == ids[1], "the gateway follows")
    assert view.tables.get("nobody") is None, "still open"
    server.thaw()
    answer = pending.result(60)
    assert answer.release == ids[0] and {version for _, version, _ in server.calls} == {1}
    eventually(lambda: view.tables._closed, "closed after its last request")


def test_two_releases_side_by_side(two, following, on_loop):
    (_, ids, _), (gateway, server) = two, following
    server.calls.clear()
    for name in ("canary", ids[1], "canary"):
        answer = on_loop(gateway.recommend(RecommendRequest(release=name)))
        assert answer.release == ids[1]
    assert {version for _, version, _ in server.calls} == {2}
    assert gateway._releases.open_ids == ids, "opened once, and kept"
    assert on_loop(gateway.recommend(RecommendRequest(release="stable"))).release == ids[0]
    assert "clickmill_gateway_open_releases 2.0" in gateway.metrics.text().decode()


def test_many_ask_for_a_release_that_is_not_open(two, following, on_loop):
    (_, ids, _), (gateway, _) = two, following

    async def at_once():
        return await asyncio.gather(*(gateway.recommend(RecommendRequest(release="canary", k=1)) for _ in range(8)))

    assert {answer.release for answer in on_loop(at_once())} == {ids[1]}
    assert gateway._releases.open_ids == ids and gateway._releases._opening == {}


def test_a_release_that_the_server_does_not_serve_is_not_followed(two, following, cascade_work, on_loop):
    (root, ids, _), (gateway, _) = two, following
    models = [model for model in gateway_case.push_models(cascade_work, root, 3)]
    third = gateway_case.publish(cascade_work, root, models)
    with pytest.raises(GatewayError) as caught:
        on_loop(gateway.recommend(RecommendRequest(release=third.id)))
    assert caught.value.status == 503 and "does not serve version 3 of two_tower" in str(caught.value)
    assert on_loop(gateway.recommend(RecommendRequest())).release == ids[0]


def test_a_gateway_without_a_server_or_a_release_is_not_ready(two, open_gateway, tmp_path, on_loop):
    root, _, _ = two
    with open_gateway("127.0.0.1:1", root=str(root), label="stable") as gateway:
        (reason,) = gateway.ready()
        assert "UNAVAILABLE" in reason and gateway.release is None
        with pytest.raises(GatewayError, match="No release is served yet") as caught:
            on_loop(gateway.recommend(RecommendRequest()))
        assert caught.value.status == 503
    with open_gateway("127.0.0.1:1", root=str(tmp_path)) as gateway:
        assert "holds no release" in gateway.ready()[0]


def test_a_gateway_whose_server_goes_away_is_not_ready(two, open_gateway):
    root, _, address = two
    with contextlib.ExitStack() as server:
        _, behind = server.enter_context(gateway_case.faulty(address))
        with open_gateway(behind, root=str(root), label="stable") as gateway:
            eventually(lambda: gateway.ready() == [], "ready")
            server.close()
            eventually(gateway.ready, "the gateway tells that its server is gone")
            assert "UNAVAILABLE" in gateway.ready()[0] and gateway.release is not None


def test_a_release_without_a_cascade_ranks_candidates_and_lists_nothing(
    cascade_work, tmp_path, model_server, open_gateway, on_loop
):
    root = tmp_path / "serving"
    models = gateway_case.push_models(cascade_work, root, names=("autoint",))
    gateway_case.publish(cascade_work, root, models, cascade=None, cascade_models={})
    with open_gateway(model_server, root=str(root)) as gateway:
        assert gateway.ready() == []
        with pytest.raises(GatewayError, match="is no cascade") as caught:
            on_loop(gateway.recommend(RecommendRequest()))
        assert caught.value.status == 503
        some = gateway._releases.followed.catalogue.item_ids[:3].to_pylist()
        answer = on_loop(gateway.rank(RankRequest(k=3, candidates=[{"item_id": each} for each in some])))
        assert {item.item_id for item in answer.items} == set(some) and isinstance(models[0], ReleasedModel)


def test_room_for_so_many_releases(two, open_gateway, on_loop, monkeypatch):
    root, ids, address = two
    promote(root, ids[0], "stable")
    with open_gateway(address, root=str(root), label="stable", max_open_releases=1) as gateway:
        eventually(lambda: gateway.ready() == [], "ready")
        on_loop(gateway.recommend(RecommendRequest(release=ids[1])))
        first = gateway._releases._others[ids[1]].view

        async def another():
            held = await gateway._releases._open(first.release.model_copy(update={"id": "other"}))
            return held.view

        on_loop(another())
        assert list(gateway._releases._others) == ["other"] and first.tables._closed
