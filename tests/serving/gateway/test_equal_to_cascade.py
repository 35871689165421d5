"""The gateway lists what the cascade lists in process, and ranks what the ranker ranks."""

import numpy as np
import pytest

from features.examples.raw_sample import json_request
from serving.gateway.schema import Flag, RankRequest, RecommendRequest, gateway_form
from serving.offline.cascade_scoring import sample_requests
from serving.release.registry import Releases
from tests.serving.gateway import gateway_case

REQUESTS = 40


@pytest.fixture(scope="module")
def cascade(gateway_root):
    return gateway_case.cascade_of(gateway_root, Releases(gateway_root).labelled("latest"))


@pytest.fixture(scope="module")
def asked(cascade_work, cascade):
    """JSON requests of held-out rows, with their histories."""
    raw = cascade_work / "raw"
    tables = sample_requests(raw / "examples", raw / "behaviors", "eval", cascade, REQUESTS)
    return [json_request(row, cascade.ranker.spec) for table in tables for row in table.to_pylist()]


def sent(request, **more):
    """A request of the in-process cascade as the gateway takes it."""
    return gateway_form(request) | more


def test_the_same_list_as_in_process(gateway, cascade, asked, on_loop):
    assert len(asked) > REQUESTS / 2, "held-out requests: as many as there are"
    lists = set()
    for request in asked:
        here = cascade.recommend({name: value for name, value in request.items() if name != "candidates"})
        there = on_loop(gateway.recommend(RecommendRequest(**sent(request, k=5))))
        assert [item.item_id for item in there.items] == [item.item_id for item in here]
        for name in ("score", "logit"):
            np.testing.assert_allclose(
                [getattr(item, name) for item in there.items], [getattr(item, name) for item in here], atol=1e-6
            )
        assert [item.position for item in there.items] == list(range(5))
        # Who has no long history is in no store: the release of this test has tables alone.
        assert set(there.flags) <= {Flag.UNKNOWN_USER} and there.release == gateway.release
        lists.add(tuple(item.item_id for item in there.items))
    assert len(lists) > len(asked) / 2, "the lists differ between the requests"


def test_the_same_explanation_as_in_process(gateway, cascade, asked, on_loop):
    for request in asked[:3]:
        here = cascade.recommend({name: value for name, value in request.items() if name != "candidates"}, explain=True)
        there = on_loop(gateway.recommend(RecommendRequest(**sent(request, k=5, explain=True)))).items
        for mine, other in zip(there, here, strict=True):
            assert {name: stage.rank for name, stage in mine.stages.items()} == {
                name: stage.rank for name, stage in other.stages.items()
            }
            for name, stage in other.stages.items():
                assert mine.stages[name].score == pytest.approx(stage.score, abs=1e-6)
            told = [(pair.field, pair.attends_to, pair.layer, pair.head) for pair in mine.attention]
            assert told == [(pair.field, pair.attends_to, pair.layer, pair.head) for pair in other.attention]
            np.testing.assert_allclose(
                [pair.weight for pair in mine.attention], [pair.weight for pair in other.attention], atol=1e-6
            )


def test_a_caller_s_own_candidates_are_ranked_as_by_the_ranker(gateway, cascade, asked, on_loop):
    for request in asked[:5]:
        here = cascade.ranker.rank(request)
        there = on_loop(gateway.rank(RankRequest(**sent(request, k=1000, candidates=request["candidates"])))).items
        assert [(item.item_id, item.index) for item in there] == [(item.item_id, item.index) for item in here]
        np.testing.assert_allclose([item.logit for item in there], [item.logit for item in here], atol=1e-6)


def test_candidates_of_the_catalogue_need_no_features(gateway, cascade, asked, on_loop):
    request = asked[0]
    ids = cascade.catalogue.item_ids.to_pylist()[:7]
    bare = on_loop(
        gateway.rank(RankRequest(**sent(request, explain=True, candidates=[{"item_id": each} for each in ids])))
    ).items
    row_less = {name: value for name, value in request.items() if name != "candidates"}
    everything = {item.item_id: item for item in cascade.recommend(row_less)}
    whole = on_loop(gateway.recommend(RecommendRequest(**sent(request, k=1000)))).items
    logits = {item.item_id: item.logit for item in whole}
    for item in bare:
        assert item.attention and set(item.stages) == {"fine"}
        if item.item_id in logits:
            assert item.logit == pytest.approx(logits[item.item_id], abs=1e-5)
    assert everything.keys() <= logits.keys() and set(ids) & logits.keys()
