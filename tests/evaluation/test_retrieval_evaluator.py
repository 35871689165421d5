import numpy as np
import pyarrow as pa
import pytest

from evaluation.config import DistilledEvaluationConfig
from evaluation.metrics.takes import Takes, over_shared_items
from evaluation.retrieval import RetrievalEvaluation, RetrievalEvaluationConfig, evaluate_retrieval

CONFIG = RetrievalEvaluationConfig(ks=(1, 3), gates={"min_takes": 4, "min_lift": None})
#: Five items on an axis each; the counts make item 0 head and item 4 unseen.
ITEMS = np.eye(5, dtype=np.float32)
COUNTS = np.array([9, 5, 5, 1, 0])


def takes(taken, wanted, items=ITEMS) -> Takes:
    """Takes of `taken` by users whose best item is `wanted`."""
    return Takes(items[np.array(wanted)], items, np.array(taken))


def gates_of(**limits) -> RetrievalEvaluationConfig:
    return CONFIG.model_copy(update={"gates": CONFIG.gates.model_copy(update=limits)})


def gate_of(result, name):
    return next(gate for gate in result.gates if gate.name == name)


def test_recall_of_model_and_popularity_in_closed_form():
    result = evaluate_retrieval(takes([0, 1, 3, 4, -1], [0, 1, 3, 3, 0]), COUNTS, CONFIG, unknown_takes=2)
    assert result.takes == {"all": 4, "head": 1, "tail": 2, "unseen": 1}
    assert (result.items, result.unknown_takes) == (5, 3)
    # Three are first; the fourth ties with three others behind one: a third place or better in 2 of 4 orders.
    assert result.model.slices["all"]["recall@1"] == pytest.approx(3 / 4)
    assert result.model.slices["all"]["recall@3"] == pytest.approx((3 + 2 / 4) / 4)
    # By popularity: item 0 is first, 1 ties with 2 for the second place, 3 is fourth, 4 last.
    popularity = result.popularity.slices
    assert popularity["all"]["recall@3"] == pytest.approx(2 / 4)
    assert popularity["tail"]["map@3"] == pytest.approx((1 / 2 + 1 / 3) / 2 / 2)
    assert popularity["head"]["recall@1"] == 1 and popularity["unseen"]["recall@3"] == 0
    assert result.blessed and {gate.name for gate in result.gates} == {"min_takes"}


def test_the_lift_over_popularity_is_judged_by_its_interval():
    """The model points at item 3, which half of the takes are of; the others are of item 0, which popularity finds."""
    result = evaluate_retrieval(takes([3, 0] * 200, [3, 3] * 200), COUNTS, gates_of(min_lift=1.0))
    gate = gate_of(result, "recall_over_popularity")
    # Found by the model: item 3, and item 0 in 2 of 4 orders; by popularity: item 0.
    assert "recall@3 of takes is 0.7500, of popularity 0.5000" in gate.reason and "is 0.2500 [" in gate.reason
    assert gate.passed and 0.25 < gate.value < 0.35 and gate.minimum == 0
    # Two takes of item 0 and one of item 3: half a take less than popularity, which three takes do not show.
    few, many = takes([0, 0, 3], [1, 3, 3]), takes([0, 0, 3] * 100, [1, 3, 3] * 100)
    lift = gates_of(min_lift=1.25, min_takes=1)
    assert evaluate_retrieval(few, COUNTS, lift).blessed
    assert gate_of(evaluate_retrieval(many, COUNTS, lift), "recall_over_popularity").value < 0


def test_worse_than_popularity_is_not_blessed():
    result = evaluate_retrieval(takes([0, 0, 1, 0], [3, 3, 3, 3]), COUNTS, gates_of(min_lift=1.0))
    assert not result.blessed and [gate.name for gate in result.failed_gates] == ["recall_over_popularity"]


def test_finding_nothing_is_not_blessed_even_where_popularity_finds_nothing():
    last = takes([4] * 4, [0] * 4, items=np.array([[4], [3], [2], [1], [0]], np.float32))
    result = evaluate_retrieval(last, COUNTS, gates_of(min_lift=1.0))
    assert result.popularity.slices["all"]["recall@3"] == result.model.slices["all"]["recall@3"] == 0
    assert not result.blessed


TAUGHT = DistilledEvaluationConfig(ks=(1, 3), gates={"min_takes": 4})


def lists(rng, right: float, requests: int = 120) -> Takes:
    """Two items of each request's list of forty; a model points at one of them with this chance, else anywhere."""
    items = np.eye(40, dtype=np.float32)
    listed = np.stack([rng.permutation(40)[:2] for _ in range(requests)])
    wanted = np.where(rng.random(requests) < right, listed[:, 0], rng.integers(0, 40, requests))
    users = np.repeat(np.arange(requests), 2)
    return Takes(items[np.repeat(wanted, 2)], items, listed.ravel(), users=users)


def test_a_taught_retrieval_is_judged_by_its_teacher_s_lists():
    """It finds fewer clicks than popularity and more of the lists than who learns from clicks: that is its purpose."""
    counts, rng = np.arange(40)[::-1], np.random.default_rng(0)
    items = np.eye(40, dtype=np.float32)
    clicks = Takes(items[rng.integers(0, 40, 200)], items, np.concatenate([np.zeros(150), rng.integers(0, 40, 50)]))
    clicks = Takes(clicks.queries, items, clicks.taken.astype(int))
    good, poor = (lists(np.random.default_rng(1), right) for right in (0.8, 0.1))
    found = evaluate_retrieval(clicks, counts, TAUGHT, taught={"model": good, "two_tower": poor})
    assert found.model.slices["all"]["recall@3"] < found.popularity.slices["all"]["recall@3"]
    recalls = found.taught_recall
    assert list(recalls) == ["model", "two_tower", "popularity"] and found.taught_pairs == 240
    # A request's first item is found where the model points at it, the second ties with 38 others for two places.
    assert recalls["model"].value == pytest.approx((0.8 + 2 / 39) / 2, abs=0.06)
    assert recalls["model"].low < recalls["model"].value < recalls["model"].high
    assert recalls["popularity"].value == pytest.approx(3 / 40, abs=0.05)
    for name in ("taught_over_two_tower", "taught_over_popularity"):
        assert gate_of(found, name).passed and gate_of(found, name).value > 0.3
    assert gate_of(found, "recall_over_chance").passed and found.blessed
    swapped = evaluate_retrieval(clicks, counts, TAUGHT, taught={"model": poor, "two_tower": good})
    assert not gate_of(swapped, "taught_over_two_tower").passed and not swapped.blessed
    # Where no teacher was asked nothing shows what the model is for.
    unasked = evaluate_retrieval(clicks, counts, TAUGHT)
    assert [gate.name for gate in unasked.failed_gates] == ["taught_over_two_tower", "taught_over_popularity"]


def test_a_taught_retrieval_is_compared_by_the_lists():
    counts, clicks = np.arange(40), Takes(*[np.eye(40, dtype=np.float32)] * 2, np.arange(40))
    good, poor, live = (lists(np.random.default_rng(1), right) for right in (0.8, 0.1, 0.7))
    lists_of = {"two_tower": poor, "live": live}
    result = evaluate_retrieval(clicks, counts, TAUGHT, live=clicks, taught={"model": good, **lists_of})
    assert result.live_comparison.takes == 240 and result.live_comparison.other == pytest.approx(0.37, abs=0.06)
    worse = evaluate_retrieval(clicks, counts, TAUGHT, live=clicks, taught={"model": poor, **lists_of})
    assert worse.verdict == "worse" and not gate_of(worse, "live_recall").passed


def test_a_taught_retrieval_that_finds_no_clicks_at_all_is_not_blessed():
    # All want item 3: the one who took it finds it first, the others' item ties with two for three places of four.
    found = evaluate_retrieval(takes([0, 0, 1, 3], [3, 3, 3, 3]), COUNTS, TAUGHT)
    gate = gate_of(found, "recall_over_chance")
    assert gate.passed and gate.value == pytest.approx((3 * 2 / 4 + 1) / 4) and gate.minimum == pytest.approx(3 / 5)
    wrong = gate_of(evaluate_retrieval(takes([0, 0, 1, 4], [3, 3, 3, 3]), COUNTS, TAUGHT), "recall_over_chance")
    assert not wrong.passed and "recall@3 is 0.5000, of chance 0.6000" in wrong.reason


def test_the_live_model_is_judged_on_the_same_takes():
    model, live = takes([0, 1, 3, 4] * 50, [0, 1, 3, 3] * 50), takes([0, 1, 3, 4] * 50, [0, 1, 3, 4] * 50)
    result = evaluate_retrieval(model, COUNTS, CONFIG, live=live)
    assert result.live.slices["all"]["recall@3"] == 1
    found = result.live_comparison
    assert (found.items, found.takes, found.model, found.other) == (5, 200, 7 / 8, 1)
    assert found.difference.value == -1 / 8 and -0.16 < found.difference.low < found.difference.high < -0.08
    gate = gate_of(result, "live_recall")
    assert not gate.passed and gate.verdict == result.verdict == "worse"
    assert evaluate_retrieval(model, COUNTS, gates_of(max_recall_loss=0.2), live=live).blessed
    unscored = evaluate_retrieval(model, COUNTS, CONFIG, unscored="The live model reads `mood`, which is gone.")
    assert unscored.live_comparison.unscored.startswith("The live model reads") and unscored.blessed
    assert [gate.name for gate in unscored.gates] == ["min_takes"]


def test_what_cannot_be_told_is_pushed_or_not_as_it_is_set_and_the_gate_says_what_would_tell():
    model, live = takes([0, 1, 3, 4] * 2, [0, 1, 3, 4] * 2), takes([0, 1, 3, 4] * 2, [0, 4, 3, 4, 0, 1, 3, 3])
    result = evaluate_retrieval(live, COUNTS, CONFIG, live=model)
    gate = gate_of(result, "live_recall")
    assert gate.verdict == "cannot_tell" and gate.passed and gate.rows_needed > 1000
    assert f"About {gate.rows_needed:,} rows would tell an equal model" in gate.reason
    assert not evaluate_retrieval(live, COUNTS, gates_of(cannot_tell="hold"), live=model).blessed


def test_the_anchor_is_a_second_comparison():
    model, better = takes([0, 1, 3, 4] * 50, [0, 1, 3, 3] * 50), takes([0, 1, 3, 4] * 50, [0, 1, 3, 4] * 50)
    result = evaluate_retrieval(model, COUNTS, CONFIG, live=model, anchor=better)
    assert result.verdict == "no_worse" and gate_of(result, "live_recall").passed
    assert result.anchor.verdict == "worse" and not gate_of(result, "anchor_recall").passed and not result.blessed


def corpus(rng, items: int, takes_of: int, first: int = 0, noise: float = 1.2, of: int | None = None):
    """Takes of a corpus in which every query points near its item; ids begin at `first`."""
    vectors = rng.standard_normal((items, 16)).astype(np.float32)
    ids = pa.array([f"i{first + n}" for n in range(items)])
    taken = rng.integers(0, of or items, takes_of)
    queries = vectors[taken] + noise * rng.standard_normal((takes_of, 16)).astype(np.float32)
    return Takes(queries, vectors, taken, ids, rng.integers(0, takes_of // 4, takes_of))


def test_a_catalogue_that_grew_is_compared_on_the_items_that_both_hold():
    """The same embeddings, a fifth more items: over its own corpus the model finds less, over shared ones as much."""
    live = corpus(np.random.default_rng(0), 500, 1500, noise=2.0)
    extra = np.random.default_rng(1).standard_normal((100, 16)).astype(np.float32)
    order = np.random.default_rng(2).permutation(600)
    items = np.concatenate([live.items, extra])[order]
    ids = pa.concat_arrays([live.item_ids, pa.array([f"new{n}" for n in range(100)])]).take(pa.array(order))
    grown = Takes(live.queries, items, np.argsort(order)[live.taken], ids, live.users)
    config = RetrievalEvaluationConfig(ks=(10, 50), gates={"min_lift": None})
    result = evaluate_retrieval(grown, np.ones(600, int), config, live=live)
    metric = "recall@50"
    assert result.model.slices["all"][metric] < result.live.slices["all"][metric] - 0.01
    found = result.live_comparison
    assert (found.items, found.takes, found.difference.value) == (500, 1500, 0.0)
    assert found.verdict == "no_worse" and result.blessed


def test_takes_of_items_that_one_corpus_lacks_count_for_its_own_figures_alone():
    model = corpus(np.random.default_rng(3), 60, 200)
    dropped = np.arange(60) % 5 > 0
    live = model.over(np.flatnonzero(dropped))
    result = evaluate_retrieval(model, np.ones(60, int), CONFIG, live=live)
    assert result.takes["all"] == 200 and result.live_comparison.items == 48
    assert result.live_comparison.takes == int(dropped[model.taken].sum()) < 200
    first, second = over_shared_items(model, live)
    assert first.item_ids.equals(second.item_ids) and (first.taken == second.taken).all()
    with pytest.raises(ValueError, match="compared by the same takes. Received: 200 and 200 takes"):
        over_shared_items(model, Takes(live.queries, live.items, live.taken[::-1], live.item_ids))


@pytest.mark.parametrize("grown", [0, 50])
def test_an_equal_retrain_passes(grown):
    """Null control: two models that err alike, each over its own corpus, with 400 takes: 95% at least."""
    passed = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        live = corpus(rng, 200, 400, noise=1.5)
        noise = 1.5 * rng.standard_normal(live.queries.shape).astype(np.float32)
        extra = rng.standard_normal((grown, 16)).astype(np.float32)
        ids = pa.array([f"i{n}" for n in range(200 + grown)])
        items = np.concatenate([live.items, extra])
        again = Takes(live.items[live.taken] + noise, items, live.taken, ids, live.users)
        config = RetrievalEvaluationConfig(ks=(10,), gates={"min_lift": None})
        passed += evaluate_retrieval(again, np.ones(200 + grown, int), config, live=live).blessed
    assert passed >= 0.95 * 120


def test_a_model_worse_by_twice_the_margin_is_refused_with_the_takes_that_the_gate_asks_for():
    """Of queries that are right with a chance, one model of .20 and one of .30; the margin is .05."""
    items = np.eye(100, dtype=np.float32)
    gates = {"min_lift": None, "max_recall_loss": 0.05}
    config = RetrievalEvaluationConfig(ks=(1,), gates=gates)

    def judged(takes_of: int, seed: int, rate: float = 0.2):
        rng = np.random.default_rng(seed)
        taken = rng.integers(0, 100, takes_of)
        model, live = (
            Takes(items[np.where(rng.random(takes_of) < right, taken, (taken + 1) % 100)], items, taken)
            for right in (rate, 0.3)
        )
        return evaluate_retrieval(model, np.ones(100, int), config, live=live)

    equal = judged(300, 0, rate=0.3)
    assert equal.verdict == "cannot_tell" and equal.blessed
    needed = gate_of(equal, "live_recall").rows_needed
    assert 1000 < needed < 5000
    assert sum(judged(needed, seed).blessed for seed in range(60)) <= 3


def test_without_takes_there_is_no_verdict_but_a_file(tmp_path):
    none = Takes(np.zeros((0, 5), np.float32), ITEMS, np.zeros(0, np.int64))
    result = evaluate_retrieval(none, COUNTS, gates_of(min_lift=1.0), live=none)
    assert not result.blessed
    assert {gate.name for gate in result.failed_gates} == {"min_takes", "recall_over_popularity", "live_recall"}
    assert result.model.slices["all"]["recall@1"] is None and result.verdict is None
    result.save(tmp_path)
    assert RetrievalEvaluation.load(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == ["retrieval_evaluation.json"]


def test_chance_is_chance():
    """Null control: users that point anywhere find k of n items, by slice as over all."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((200, 8)).astype(np.float32)
    taken = rng.integers(0, 200, 4000)
    found = evaluate_retrieval(
        Takes(rng.standard_normal((4000, 8)).astype(np.float32), items, taken),
        rng.integers(1, 50, 200),
        RetrievalEvaluationConfig(ks=(20,)),
    )
    for part in ("head", "tail", "all"):
        share = found.takes[part]
        assert abs(found.model.slices[part]["recall@20"] - 0.1) < 4.5 * np.sqrt(0.1 * 0.9 / share) + 0.02


def test_mismatches_are_refused():
    with pytest.raises(ValueError, match="`train_counts` must hold 5 items. Received: 4"):
        evaluate_retrieval(takes([0], [0]), COUNTS[:4], CONFIG)
    with pytest.raises(ValueError, match="the same 1 takes. Received: 2"):
        evaluate_retrieval(takes([0], [0]), COUNTS, CONFIG, live=takes([0, 1], [0, 1]))
    with pytest.raises(ValueError, match="`item_ids`. Received: corpora of 5 and 4 items"):
        evaluate_retrieval(takes([0], [0]), COUNTS, CONFIG, live=takes([0], [0], ITEMS[:4]))
