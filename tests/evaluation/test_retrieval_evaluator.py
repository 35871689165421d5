import numpy as np
import pytest

from evaluation.config import DistilledEvaluationConfig
from evaluation.retrieval import RetrievalEvaluation, RetrievalEvaluationConfig, Takes, evaluate_retrieval

CONFIG = RetrievalEvaluationConfig(ks=(1, 3), gates={"min_takes": 4})
#: Five items on an axis each; the counts make item 0 head and item 4 unseen.
ITEMS = np.eye(5, dtype=np.float32)
COUNTS = np.array([9, 5, 5, 1, 0])


def takes(taken, wanted, items=ITEMS) -> Takes:
    """Takes of `taken` by users whose best item is `wanted`."""
    return Takes(items[np.array(wanted)], items, np.array(taken))


def test_recall_of_model_and_popularity_in_closed_form():
    result = evaluate_retrieval(takes([0, 1, 3, 4], [0, 1, 3, 3]), COUNTS, CONFIG, unknown_takes=2)
    assert result.takes == {"all": 4, "head": 1, "tail": 2, "unseen": 1}
    assert (result.items, result.unknown_takes) == (5, 2)
    # Three are first; the fourth ties with three others behind one: a third place or better in 2 of 4 orders.
    assert result.model.slices["all"]["recall@1"] == pytest.approx(3 / 4)
    assert result.model.slices["all"]["recall@3"] == pytest.approx((3 + 2 / 4) / 4)
    # By popularity: item 0 is first, 1 ties with 2 for the second place, 3 is fourth, 4 last.
    popularity = result.popularity.slices
    assert popularity["all"]["recall@3"] == pytest.approx(2 / 4)
    assert popularity["tail"]["map@3"] == pytest.approx((1 / 2 + 1 / 3) / 2 / 2)
    assert popularity["head"]["recall@1"] == 1 and popularity["unseen"]["recall@3"] == 0
    assert result.blessed and {gate.name for gate in result.gates} == {"min_takes", "recall_over_popularity"}
    gate = next(gate for gate in result.gates if gate.name == "recall_over_popularity")
    assert gate.value == pytest.approx((3 + 2 / 4) / 4) and gate.minimum == pytest.approx(2 / 4)


def test_worse_than_popularity_is_not_blessed():
    result = evaluate_retrieval(takes([0, 0, 1, 0], [3, 3, 3, 3]), COUNTS, CONFIG)
    assert not result.blessed and [gate.name for gate in result.failed_gates] == ["recall_over_popularity"]
    assert "recall@3 is" in result.failed_gates[0].reason


def test_finding_nothing_is_not_blessed_even_where_popularity_finds_nothing():
    last = takes([4] * 4, [0] * 4, items=np.array([[4], [3], [2], [1], [0]], np.float32))
    result = evaluate_retrieval(last, COUNTS, CONFIG)
    assert result.popularity.slices["all"]["recall@3"] == result.model.slices["all"]["recall@3"] == 0
    assert not result.blessed


def test_a_taught_retrieval_is_held_against_chance():
    taught = DistilledEvaluationConfig(ks=(1, 3), gates={"min_takes": 4})
    # All want item 3: the one who took it finds it first, the others' item ties with two for three places of four.
    found = takes([0, 0, 1, 3], [3, 3, 3, 3])
    result = evaluate_retrieval(found, COUNTS, taught)
    gate = next(gate for gate in result.gates if gate.name == "recall_over_chance")
    assert gate.value == pytest.approx((3 * 2 / 4 + 1) / 4) and gate.minimum == pytest.approx(3 / 5)
    assert result.blessed and {gate.name for gate in result.gates} == {"min_takes", "recall_over_chance"}
    wrong = evaluate_retrieval(takes([0, 0, 1, 4], [3, 3, 3, 3]), COUNTS, taught)
    assert [gate.name for gate in wrong.failed_gates] == ["recall_over_chance"]
    assert "recall@3 is 0.5000, of chance 0.6000" in wrong.failed_gates[0].reason


def test_the_live_model_is_judged_on_the_same_takes():
    model, live = takes([0, 1, 3, 4], [0, 1, 3, 3]), takes([0, 1, 3, 4], [0, 1, 3, 4])
    result = evaluate_retrieval(model, COUNTS, CONFIG, live=live)
    assert result.live.slices["all"]["recall@3"] == 1
    gate = next(gate for gate in result.gates if gate.name == "live_recall")
    assert not gate.passed and gate.value == pytest.approx(-1 / 8)
    lenient = CONFIG.model_copy(update={"gates": CONFIG.gates.model_copy(update={"max_recall_loss": 0.2})})
    assert evaluate_retrieval(model, COUNTS, lenient, live=live).blessed


def test_without_takes_there_is_no_verdict_but_a_file(tmp_path):
    none = Takes(np.zeros((0, 5), np.float32), ITEMS, np.zeros(0, np.int64))
    result = evaluate_retrieval(none, COUNTS, CONFIG)
    assert not result.blessed and {gate.name for gate in result.failed_gates} == {"min_takes", "recall_over_popularity"}
    assert result.model.slices["all"]["recall@1"] is None
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
