"""Requests at the edges: nobody asks, nothing is sent, more is wanted than there is, too many ask."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from features.arrow import read_parquet, write_parquet
from serving.gateway.refusal import GatewayError
from serving.gateway.schema import Flag, RankRequest, RecommendRequest
from tests.serving.gateway import gateway_case
from tests.serving.server.serving_case import eventually


def refused(on_loop, work):
    with pytest.raises(GatewayError) as caught:
        on_loop(work)
    return caught.value.status, str(caught.value)


def test_nobody_gets_a_list(gateway, on_loop):
    answer = on_loop(gateway.recommend(RecommendRequest()))
    assert len(answer.items) == 10 and answer.flags == [Flag.UNKNOWN_USER]
    assert answer.request_id and answer.variants == {} and answer.explored is None
    assert {"lookup", "retrieve", "coarse", "fine", "total"} == set(answer.stage_ms)
    assert answer.items[0].score >= answer.items[1].score and answer.items[0].propensity is None
    named = on_loop(gateway.recommend(RecommendRequest(user="a stranger", request_id="r1")))
    assert named.request_id == "r1" and named.flags == [Flag.UNKNOWN_USER]


def test_more_than_the_catalogue_gives_all_of_it(cascade_work, tmp_path, model_server, open_gateway, on_loop):
    """Half of the items are not in the catalogue: what the retrieval finds of them is nothing to the list."""
    items = read_parquet(cascade_work / "raw" / "examples" / "catalogue" / "items.parquet")
    half = items.filter(pa.array(np.arange(len(items)) % 2 == 0))
    write_parquet(half, tmp_path / "items.parquet")
    root = tmp_path / "serving"
    models = gateway_case.push_models(cascade_work, root)
    gateway_case.publish(cascade_work, root, models, items=tmp_path / "items.parquet")
    with open_gateway(model_server, root=str(root)) as gateway:
        answer = on_loop(gateway.recommend(RecommendRequest(k=1000)))
    assert answer.flags == [Flag.UNKNOWN_USER, Flag.FEWER_THAN_K]
    assert {item.item_id for item in answer.items} == set(half["item_id"].to_pylist())
    with pytest.raises(ValidationError):
        RecommendRequest(k=1001)


def test_as_many_as_asked_for_pass_every_stage(gateway, on_loop):
    """The release's own cascade leaves 20 to the fine ranker: who wants more gets more."""
    answer = on_loop(gateway.recommend(RecommendRequest(k=45)))
    assert len(answer.items) == 45 and answer.flags == [Flag.UNKNOWN_USER]


def test_candidates_none_unknown_and_twice(gateway, on_loop):
    empty = on_loop(gateway.rank(RankRequest(candidates=[])))
    assert empty.items == [] and empty.flags == [Flag.UNKNOWN_USER, Flag.FEWER_THAN_K]
    one = gateway._releases.followed.catalogue.item_ids[0].as_py()
    answer = on_loop(gateway.rank(RankRequest(k=3, candidates=[{"item_id": -7}, {"item_id": one}, {"item_id": one}])))
    places = [item.index for item in answer.items]
    assert sorted(places) == [0, 1, 2] and places.index(1) < places.index(2), "of equal scores the earlier comes first"
    assert all(item.score is not None for item in answer.items)
    nameless = on_loop(gateway.rank(RankRequest(k=1, candidates=[{}])))
    assert nameless.items[0].item_id is None and nameless.items[0].score is not None


@pytest.mark.parametrize(
    "values, said",
    [
        ({"context": {"devise": "ios"}}, "Did you mean `device`"),
        ({"context": {"device": 7}}, "`device` must be a string"),
        ({"user": 7}, "`user_id` must be a string"),
        ({"user": "u1", "context": {"user_id": "u2"}}, "stands in both"),
        ({"history": [{"colour": "red"}]}, "is not a history feature"),
        ({"release": "../../etc"}, "is no id of a release"),
        ({"experiment": {"ranker": "b"}}, "there is no experiment"),
    ],
)
def test_what_a_caller_did_wrong_is_said(gateway, on_loop, values, said):
    status, message = refused(on_loop, gateway.recommend(RecommendRequest(**values)))
    assert said in message and status == (404 if "release" in values else 400)


def test_what_a_release_does_not_hold(gateway, open_gateway, model_server, on_loop):
    status, message = refused(on_loop, gateway.recommend(RecommendRequest(release="no-such")))
    assert status == 404 and "has no release no-such" in message
    with open_gateway(model_server, allow_releases=False, allow_forced=False) as strict:
        assert refused(on_loop, strict.recommend(RecommendRequest(release="latest")))[0] == 400
        assert "allow_forced" in refused(on_loop, strict.recommend(RecommendRequest(experiment={"a": "b"})))[1]


def test_too_many_are_refused_at_once_and_those_who_wait_are_answered(open_gateway, model_server, on_loop):
    async def all_at_once(gateway, count):
        asked = [gateway.recommend(RecommendRequest(k=1)) for _ in range(count)]
        return await asyncio.gather(*asked, return_exceptions=True)

    with open_gateway(model_server, max_concurrent=2, max_waiting=3) as gateway:
        answers = on_loop(all_at_once(gateway, 12))
        statuses = [getattr(answer, "status", 200) for answer in answers]
        assert sorted(statuses) == [200] * 5 + [429] * 7
        assert [getattr(each, "status", 200) for each in on_loop(all_at_once(gateway, 5))] == [200] * 5, (
            "places are free"
        )
        text = gateway.metrics.text().decode()
    assert 'clickmill_gateway_requests_total{kind="recommend",status="429"} 7.0' in text
    assert 'clickmill_gateway_requests_total{kind="recommend",status="200"} 10.0' in text
    assert 'clickmill_gateway_flags_total{flag="unknown_user"} 10.0' in text
    assert 'clickmill_gateway_stage_seconds_count{stage="fine"} 10.0' in text


def test_who_waits_too_long_is_told(open_gateway, model_server, on_loop):
    with (
        gateway_case.faulty(model_server) as (server, address),
        open_gateway(address, max_concurrent=1) as gateway,
    ):
        server.faults = {"two_tower": "freeze"}
        first = asyncio.run_coroutine_threadsafe(gateway.recommend(RecommendRequest()), on_loop.loop)
        eventually(lambda: server.calls, "the first has the place")
        gateway.config = gateway.config.model_copy(update={"deadline_ms": 50})
        status, message = refused(on_loop, gateway.recommend(RecommendRequest()))
        assert status == 504 and "no place was free" in message
        first.cancel()
        eventually(lambda: not gateway._admission.working, "who goes away leaves the place")
        assert gateway._admission.waiting == 0
        assert 'status="499"' in gateway.metrics.text().decode()
