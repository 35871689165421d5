"""Experiments through the gateway: who gets which list by which policy, and what is logged of it."""

import numpy as np
import pyarrow.dataset as ds
import pytest

from evaluation.replay.policies.greedy import EpsilonPolicy, TopPolicy
from serving.gateway.refusal import GatewayError
from serving.gateway.schema import Flag, RankRequest, RecommendRequest
from serving.gateway.traffic import draw
from tests.serving.gateway import gateway_case

NOW = 1_700_000_000_000
EXPERIMENTS = """
layers:
  - name: order
    salt: o1
    testers: [tester]
    variants:
      - {name: own, share: 5000}
      - {name: drawn, share: 5000, exploration: {kind: plackett_luce, temperature: 2.0}}
  - name: ranker
    salt: r1
    testers: [tester]
    variants:
      - {name: gone, share: 0, release: canary}
"""


@pytest.fixture
def experimenting(open_gateway, model_server, tmp_path):
    """A gateway with experiments and a log, and where the log is."""
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS)
    values = {"experiments": str(tmp_path / "experiments.yaml"), "exposure_log": str(tmp_path / "log"), "seed": 3}
    with open_gateway(model_server, **values) as gateway:
        yield gateway, tmp_path / "log"


def ask(on_loop, gateway, user, **values):
    return on_loop(gateway.recommend(RecommendRequest(**{"user": user, "timestamp": NOW, "k": 5} | values)))


def test_variants_draw_and_what_was_shown_is_logged(experimenting, gateway, on_loop):
    opened, log = experimenting
    answers = {f"s{number}": ask(on_loop, opened, f"s{number}") for number in range(24)}
    drawn = {user: answer for user, answer in answers.items() if answer.variants["order"] == "drawn"}
    assert 4 < len(drawn) < 20
    differ = 0
    for user, answer in answers.items():
        own = ask(on_loop, gateway, user)
        if user in drawn:
            assert answer.explored.startswith("plackett_luce") and len({item.item_id for item in answer.items}) == 5
            assert all(0 < item.propensity <= 1 for item in answer.items)
            differ += [item.item_id for item in answer.items] != [item.item_id for item in own.items]
        else:
            assert answer.explored is None and answer.items == own.items
    assert differ > len(drawn) / 2
    ask(on_loop, opened, "s1", release="latest")
    ask(on_loop, opened, None)
    on_loop(opened.close())
    rows = ds.dataset(log, format="parquet", ignore_prefixes=[".", "_"]).to_table().to_pylist()
    assert len(rows) == 24 * 5, "neither who looks at a release nor who is nobody"
    for row in rows:
        answer = answers[row["user_id"]]
        item = answer.items[row["position"]]
        assert (row["item_id"], row["request_id"], row["release"]) == (
            item.item_id,
            answer.request_id,
            answer.release,
        )
        assert row["propensity"] == (1.0 if item.propensity is None else item.propensity)
        assert row["policy"] == (answer.explored or "greedy") and row["forced"] is False
        assert row["variants"] == [f"order={answer.variants['order']}"] and row["timestamp"] == NOW


def test_testers_force_variants_and_others_do_not(experimenting, on_loop):
    opened, _ = experimenting
    for variant in ("own", "drawn"):
        answer = ask(on_loop, opened, "tester", experiment={"order": variant})
        assert answer.variants == {"order": variant} and bool(answer.explored) == (variant == "drawn")
    with pytest.raises(GatewayError, match="not among the testers") as caught:
        ask(on_loop, opened, "s1", experiment={"order": "drawn"})
    assert caught.value.status == 400


def test_a_variant_whose_release_is_not_there(experimenting, on_loop):
    opened, log = experimenting
    answer = ask(on_loop, opened, "tester", experiment={"ranker": "gone", "order": "drawn"})
    assert Flag.VARIANT_UNAVAILABLE in answer.flags and answer.variants == {} and answer.explored is None
    assert answer.release == opened.release and len(answer.items) == 5


def test_a_list_that_a_failure_made_has_no_propensities(model_server, open_gateway, tmp_path, on_loop):
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS)
    values = {"experiments": str(tmp_path / "experiments.yaml"), "exposure_log": str(tmp_path / "log")}
    with gateway_case.faulty(model_server) as (server, address), open_gateway(address, **values) as opened:
        server.faults = {"autoint": "fail"}
        answer = ask(on_loop, opened, "tester", experiment={"order": "drawn"})
        assert answer.explored is None and answer.items[0].propensity is None
    rows = ds.dataset(tmp_path / "log", format="parquet", ignore_prefixes=[".", "_"]).to_table().to_pylist()
    assert {(row["policy"], row["propensity"], row["forced"]) for row in rows} == {("degraded", None, True)}


def test_a_caller_s_own_candidates_are_drawn_too(experimenting, on_loop):
    opened, _ = experimenting
    ids = opened._releases.followed.catalogue.item_ids[:6].to_pylist()
    asked = RankRequest(
        user="tester", k=3, experiment={"order": "drawn"}, candidates=[{"item_id": each} for each in ids]
    )
    answer = on_loop(opened.rank(asked))
    assert [ids[item.index] for item in answer.items] == [item.item_id for item in answer.items]
    assert answer.explored and all(item.propensity for item in answer.items)


def test_what_is_no_number_is_not_drawn():
    items, logits = np.array([7, 3, 9, 1]), np.array([1.0, np.nan, 1.0, -np.inf], np.float32)
    drawn = draw(items, logits, 3, TopPolicy(), np.random.default_rng(0))
    assert drawn.places.tolist() == [0, 2] and drawn.propensities.tolist() == [1, 1]
    tied = draw(items[::-1], np.zeros(4), 4, TopPolicy(), np.random.default_rng(0))
    assert items[::-1][tied.places].tolist() == [1, 3, 7, 9], "of equal logits the earlier item of the catalogue"
    nothing = draw(items, np.full(4, np.nan), 3, EpsilonPolicy(0.5, 2), np.random.default_rng(0))
    assert nothing.places.tolist() == [] and not nothing.explored
