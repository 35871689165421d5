"""Short forms of `python -m benchmarks verdicts`: models of known quality, judged by the default gates."""

import pytest

from benchmarks.evaluation import verdicts

MARGIN = verdicts.MARGIN


def test_equally_good_retrains_pass_at_the_default_runs_size():
    found = verdicts.retrains(24, verdicts.ROWS, 0.0)
    assert found["half_width"] == pytest.approx(0.008, abs=0.0008)
    assert found["passed"] >= 0.85, found  # 97% in the long run, as the benchmark finds
    assert found["rows_needed"] == pytest.approx(verdicts.ROWS * (2 * 0.008 / MARGIN) ** 2, rel=0.25)


def test_models_that_lose_twice_the_margin_do_not_with_the_rows_that_are_asked_for():
    found = verdicts.retrains(4, 137_000, 2 * MARGIN)
    assert found["passed"] == 0 and found["verdicts"].get("worse", 0) >= 3, found


def test_of_fourteen_slightly_worse_models_none_is_live_that_lost_twice_the_margin_to_the_anchor():
    config = verdicts.configuration()
    for seed in range(2):
        kept = verdicts.chain(seed, config)
        assert 2 <= kept["pushed"] < verdicts.DAYS and kept["worst"] <= 2 * MARGIN, kept
    # the control: beside the live model alone, each loses too little to be refused
    assert verdicts.chain(0, config, keeps_anchor=False)["worst"] > 2 * MARGIN


def test_a_slice_of_one_user_fails_no_calibrated_model():
    found = verdicts.slices(12, users=1)
    assert found["value_outside"] > 0.2 and found["failed"] == found["judged"] == 0, found


def test_a_first_ranker_below_the_items_click_rates_is_refused():
    found = verdicts.first_rankers(2, 0.09)
    assert found["auc"] < found["baseline_auc"] - 0.05 and found["passed"] == 0, found
