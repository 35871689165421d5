"""Without one of its stages the gateway answers by rule, in time, and says so."""

import contextlib
import threading

import numpy as np
import pytest

from serving.gateway.refusal import GatewayError
from serving.gateway.schema import Flag, RankRequest, RecommendRequest
from serving.release.registry import Releases
from serving.requests.json_request import row_from_request
from tests.serving.gateway import gateway_case

FAULTS = ("fail", "freeze")
STAGE_OF = {"two_tower": "retrieve_ms", "hcn": "coarse_ms", "autoint": "fine_ms"}
NOW = 1_700_000_000_000


@pytest.fixture(scope="module")
def cascade(gateway_root):
    return gateway_case.cascade_of(gateway_root, Releases(gateway_root).labelled("latest"))


@pytest.fixture(scope="module")
def expected(cascade):
    """The list for `ask` where models are broken."""
    asked = {"user": {"user_id": "nobody"}, "timestamp": NOW}
    row = row_from_request(cascade.ranker.spec, asked, candidates=False)

    def of(gateway, broken):
        return gateway_case.list_without(cascade, row, gateway._releases.followed.popular, broken)

    return of


@pytest.fixture
def with_fault(open_gateway, model_server):
    """A gateway of which one stage is broken: it waits little for that one, and behind which server it is."""

    @contextlib.contextmanager
    def opened(model, fault):
        little = {STAGE_OF[model]: 200} if fault == "freeze" else {}
        patient = dict.fromkeys(("lookup_ms", "retrieve_ms", "coarse_ms", "fine_ms", "explain_ms"), 15_000)
        with (
            gateway_case.faulty(model_server) as (server, address),
            open_gateway(address, deadlines=patient | little) as gateway,
        ):
            server.faults = {model: fault}
            yield gateway, server

    return opened


def ask(on_loop, gateway, **values):
    return on_loop(gateway.recommend(RecommendRequest(timestamp=NOW, user="nobody", **{"k": 5} | values)))


def ids(answer):
    return [item.item_id for item in answer.items]


@pytest.mark.parametrize("fault", FAULTS)
def test_without_retrieval_the_popular_items_are_ranked(with_fault, expected, on_loop, fault):
    with with_fault("two_tower", fault) as (gateway, server):
        answer = ask(on_loop, gateway)
        assert answer.flags == [Flag.UNKNOWN_USER, Flag.RETRIEVAL_FAILED, Flag.POPULAR_ITEMS]
        assert ids(answer) == expected(gateway, {"two_tower"})
        server.thaw()
        if fault == "fail":
            well = ask(on_loop, gateway)
            assert ids(well) == expected(gateway, set()) and well.flags == [Flag.UNKNOWN_USER], "all is well again"


@pytest.mark.parametrize("fault", FAULTS)
def test_without_the_coarse_ranker_the_first_retrieved_reach_the_fine_one(with_fault, expected, on_loop, fault):
    with with_fault("hcn", fault) as (gateway, _):
        answer = ask(on_loop, gateway)
        assert answer.flags == [Flag.UNKNOWN_USER, Flag.COARSE_FAILED]
        assert ids(answer) == expected(gateway, {"hcn"}) and answer.items[0].logit is not None


@pytest.mark.parametrize("fault", FAULTS)
def test_without_the_fine_ranker_the_coarse_order_holds(with_fault, expected, on_loop, fault):
    with with_fault("autoint", fault) as (gateway, _):
        answer = ask(on_loop, gateway)
        assert answer.flags == [Flag.UNKNOWN_USER, Flag.FINE_FAILED]
        assert ids(answer) == expected(gateway, {"autoint"})
        assert all(item.score is None and item.logit is None for item in answer.items)
        ranked = on_loop(gateway.rank(RankRequest(candidates=[{"item_id": each} for each in ids(answer)][::-1])))
        assert ids(ranked) == ids(answer)[::-1] and Flag.FINE_FAILED in ranked.flags


def test_a_list_that_cannot_be_explained_in_full(with_fault, on_loop):
    with with_fault("autoint", "fail") as (gateway, _):
        answer = ask(on_loop, gateway, explain=True)
        assert answer.flags == [Flag.UNKNOWN_USER, Flag.FINE_FAILED, Flag.EXPLANATION_FAILED]
        assert set(answer.items[0].stages) == {"retrieve", "coarse"} and answer.items[0].attention is None


def test_without_any_stage_the_popular_items_stand_in_their_order(with_fault, expected, on_loop):
    with with_fault("two_tower", "fail") as (gateway, server):
        server.faults = dict.fromkeys(gateway_case.STAGES, "fail")
        answer = ask(on_loop, gateway)
        assert ids(answer) == expected(gateway, set(gateway_case.STAGES))
        assert {Flag.RETRIEVAL_FAILED, Flag.POPULAR_ITEMS, Flag.COARSE_FAILED, Flag.FINE_FAILED} < set(answer.flags)


def test_a_server_that_freezes_costs_the_deadline_and_no_more(open_gateway, model_server, on_loop):
    times = dict.fromkeys(("lookup_ms", "retrieve_ms", "coarse_ms", "fine_ms"), 300)
    with (
        gateway_case.faulty(model_server) as (server, address),
        open_gateway(address, deadlines=times, deadline_ms=1000) as gateway,
    ):
        server.faults = dict.fromkeys(gateway_case.STAGES, "freeze")
        answer = ask(on_loop, gateway)
    assert len(answer.items) == 5 and answer.stage_ms["total"] < 10_000
    assert all(answer.stage_ms[stage] >= 250 for stage in ("retrieve", "coarse", "fine"))


def test_the_whole_deadline_cuts_what_a_stage_may_take(open_gateway, model_server, on_loop):
    times = {"retrieve_ms": 400, "coarse_ms": 300, "fine_ms": 300}
    with (
        gateway_case.faulty(model_server) as (server, address),
        open_gateway(address, deadlines=times, deadline_ms=1000) as gateway,
    ):
        server.faults = dict.fromkeys(gateway_case.STAGES, "freeze")
        assert Flag.DEADLINE in ask(on_loop, gateway).flags, "95 % of 1 s are over before the fine ranker's 0.3 s"


def test_nan_scores_stand_behind_and_are_null(broken, on_loop):
    gateway, server = broken
    whole = ask(on_loop, gateway, k=1000)

    def nan_for_the_best(outputs):
        best = outputs["logit"].argmax()
        outputs["logit"][0, best] = outputs["score"][0, best] = np.nan
        return outputs

    server.faults = {"autoint": nan_for_the_best}
    answer = ask(on_loop, gateway, k=1000)
    assert Flag.NAN_SCORES in answer.flags
    assert ids(answer)[:-1] == ids(whole)[1:] and ids(answer)[-1] == ids(whole)[0]
    assert answer.items[-1].score is None and answer.items[-1].logit is None
    server.faults = {"hcn": lambda outputs: {name: np.full_like(each, np.nan) for name, each in outputs.items()}}
    answer = ask(on_loop, gateway, explain=True)
    assert Flag.NAN_SCORES in answer.flags and answer.items[0].stages["coarse"].score is None
    server.thaw()


@pytest.mark.parametrize(
    "model, change",
    [
        ("two_tower", lambda outputs: {"item_id": outputs["item_id"]}),
        ("two_tower", lambda outputs: {**outputs, "score": outputs["score"][:, :-1]}),
        ("two_tower", lambda outputs: {**outputs, "item_id": np.full(outputs["item_id"].shape, "no item of ours")}),
        ("hcn", lambda outputs: {"score": outputs["score"][:, :-1]}),
        ("autoint", lambda outputs: {**outputs, "logit": outputs["logit"][0]}),
    ],
)
def test_an_answer_of_another_form_is_no_answer(broken, on_loop, model, change):
    gateway, server = broken
    server.faults = {model: change}
    flag = {"two_tower": Flag.RETRIEVAL_FAILED, "hcn": Flag.COARSE_FAILED, "autoint": Flag.FINE_FAILED}[model]
    answer = ask(on_loop, gateway)
    assert flag in answer.flags and len(answer.items) == 5
    text = gateway.metrics.text().decode()
    assert f'code="BAD_ANSWER",stage="{ {"two_tower": "retrieve", "hcn": "coarse", "autoint": "fine"}[model] }"' in text
    server.thaw()


def test_nothing_retrieved_is_answered_by_the_popular_items(broken, on_loop):
    gateway, server = broken
    server.faults = {"two_tower": lambda outputs: {**outputs, "item_id": np.full_like(outputs["item_id"], -7)}}
    answer = ask(on_loop, gateway)
    assert Flag.NOTHING_RETRIEVED in answer.flags and Flag.POPULAR_ITEMS in answer.flags
    assert Flag.RETRIEVAL_FAILED not in answer.flags and len(answer.items) == 5
    server.thaw()


def test_every_call_names_the_version(broken, on_loop):
    gateway, server = broken
    server.calls.clear()
    ask(on_loop, gateway, explain=True)
    assert server.calls == [
        ("two_tower", 1, "retrieve"),
        ("hcn", 1, "coarse_rank"),
        ("autoint", 1, "serving_default"),
        ("autoint", 1, "explain"),
    ]


def test_without_popular_items_there_is_no_answer(cascade_work, tmp_path, model_server, open_gateway, on_loop):
    root = tmp_path / "serving"
    models = gateway_case.push_models(cascade_work, root)
    gateway_case.publish(cascade_work, root, models, popular_items=None)
    with gateway_case.faulty(model_server) as (server, address), open_gateway(address, root=str(root)) as gateway:
        server.faults = {"two_tower": "fail"}
        with pytest.raises(GatewayError, match="names no popular items") as caught:
            ask(on_loop, gateway)
    assert caught.value.status == 503


def test_a_store_that_does_not_answer_costs_the_table_alone(gateway, on_loop, monkeypatch):
    view = gateway._releases.followed
    user = next(iter(view.tables))[0]
    whole = on_loop(gateway.recommend(RecommendRequest(user=user, k=5, timestamp=NOW)))
    assert Flag.NO_TABLE not in whole.flags and Flag.UNKNOWN_USER not in whole.flags

    def broken_get(user):
        raise OSError("the disk is gone")

    monkeypatch.setattr(view.tables, "get", broken_get)
    answer = on_loop(gateway.recommend(RecommendRequest(user=user, k=5, timestamp=NOW)))
    assert Flag.NO_TABLE in answer.flags and len(answer.items) == 5
    assert [item.logit for item in answer.items] != [item.logit for item in whole.items]
    thawed = threading.Event()
    monkeypatch.setattr(view.tables, "get", lambda user: thawed.wait(60) and None)
    monkeypatch.setattr(gateway._answering, "_deadlines", gateway.config.deadlines.model_copy(update={"lookup_ms": 50}))
    answer = on_loop(gateway.recommend(RecommendRequest(user=user, k=5, timestamp=NOW)))
    thawed.set()
    assert Flag.NO_TABLE in answer.flags and len(answer.items) == 5
