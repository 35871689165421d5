"""The benchmark of AW-MoE: slices that are fixed before any training, and a comparison that finds a planted gain."""

import numpy as np

from benchmarks.rankers import aw_moe


def rows(count=6000, users=300):
    rng = np.random.default_rng(0)
    user = np.sort(rng.integers(0, users, count))
    history = rng.permutation(users)[user] // 10
    return aw_moe.Rows(user, user, history)


def test_tails_are_the_short_histories():
    table = rows()
    slices = table.slices()
    assert len(slices["all"]) == len(table.user)
    assert table.history[slices["at_most_3"]].max() == 3
    tail = table.history[slices["lowest_quartile"]]
    rest = np.delete(table.history, slices["lowest_quartile"])
    assert tail.max() < rest.min() and 0.2 < len(tail) / len(table.user) < 0.3


def test_a_loss_that_helps_the_tail_alone_is_found_and_its_control_is_not(tmp_path, monkeypatch):
    table, rng = rows(), np.random.default_rng(1)
    labels = (rng.random(len(table.user)) < 0.3).astype(float)
    tail = table.history <= np.quantile(table.history, 0.25)
    monkeypatch.setattr(aw_moe, "prepare", lambda data, work: (tmp_path, tmp_path))
    monkeypatch.setattr(aw_moe.Rows, "read", classmethod(lambda cls, examples, split: table))
    for candidate, gain in {"aw_moe_no_loss": 0.0, "aw_moe": 1.0, "gate_dropout": 0.0}.items():
        for seed in (1, 2):
            path = aw_moe.scores_path(tmp_path, aw_moe.settings("simulated", candidate, seed))
            path.parent.mkdir(parents=True, exist_ok=True)
            logits = (0.5 + gain * tail) * labels + np.random.default_rng(seed).normal(size=len(labels))
            np.savez(path, labels=labels, scores=1 / (1 + np.exp(-logits)))
    found = aw_moe.compare("simulated", [1, 2], tmp_path)
    helped = found["gain_over_no_loss"]["aw_moe"]["lowest_quartile_less_all"]["auc"]
    assert helped[1] > 0.05 and helped[1] < helped[0] < helped[2]
    assert found["gain_over_no_loss"]["gate_dropout"]["lowest_quartile_less_all"]["auc"] == [0.0, 0.0, 0.0]
    assert found["aw_moe_over"]["all"]["aw_moe_no_loss"]["auc"][1] > 0
    assert set(found["metrics"]["all"]) == {"aw_moe_no_loss", "aw_moe", "gate_dropout"}
