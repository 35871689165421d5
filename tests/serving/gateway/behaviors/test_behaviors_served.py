"""Behaviours through the gateway, embedded by a real export on a real server; the long form is a drill."""

import pytest

from benchmarks.serving.held_back import deliveries, differences, hold_back
from serving.gateway.refusal import GatewayError
from serving.gateway.schema import BehaviorEvent, BehaviorsRequest, Flag, RecommendRequest
from serving.release.registry import Releases

EVENTS = 250


@pytest.fixture(scope="module")
def shops(cascade_work, gateway_root, tmp_path_factory):
    """Two roots, of stores without the newest behaviours and of whole ones, and these behaviours."""
    return hold_back(gateway_root, cascade_work / "raw", tmp_path_factory.mktemp("held back"), EVENTS)


def test_stores_are_those_of_a_rebuild(shops, open_gateway, model_server, on_loop):
    appended, rebuilt, events = shops
    before = differences(appended, rebuilt)
    assert before["tables_that_differ"] > 5 and before["profiles_that_differ"] > 5
    release, user = Releases(appended).labelled("latest").id, events[-1][0]
    with open_gateway(model_server, root=str(appended)) as gateway:
        requests = [BehaviorsRequest(events=each) for each in deliveries(events)]
        answers = [on_loop(gateway.append_behaviors(request)) for request in requests]
        # Those that come late may find a window that is full of newer ones.
        assert 0.8 * len(events) < sum(answer.appended for answer in answers) <= len(events)
        assert {answer.release for answer in answers} == {release}
        seen = on_loop(gateway.recommend(RecommendRequest(user=user, k=5)))
        assert Flag.UNKNOWN_USER not in seen.flags and len(seen.items) == 5
        wrong = BehaviorEvent(user=user, timestamp=events[-1][1], item_id=events[-1][2], features={"tags": 1})
        with pytest.raises(GatewayError, match="tags") as refused:
            on_loop(gateway.append_behaviors(BehaviorsRequest(events=[wrong])))
        assert refused.value.status == 400
    after = differences(appended, rebuilt)
    assert (after["tables_that_differ"], after["profiles_that_differ"]) == (0, 0)
    assert after["tables"] == before["tables"] and after["profiles"] == before["profiles"]


def test_a_release_without_profiles_takes_no_behaviors_in(gateway, on_loop):
    event = BehaviorEvent(user="u", timestamp=1_700_000_000_000, item_id="i")
    with pytest.raises(GatewayError, match="no store") as refused:
        on_loop(gateway.append_behaviors(BehaviorsRequest(events=[event])))
    assert refused.value.status == 503
