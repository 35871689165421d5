"""Verdicts, what they could have told, looks that are counted, and how verdicts move between estimators."""

import numpy as np
import pytest

from benchmarks.replay.worlds import SCENARIOS, Scenario, World
from evaluation.replay.diagnostics.diagnostic import Evidence
from evaluation.replay.diagnostics.registry import diagnose
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.sums import UserSums
from evaluation.replay.verdicts.looks import LookError, Looks, read_looks
from evaluation.replay.verdicts.power import power_of
from evaluation.replay.verdicts.sensitivity import sensitivity
from evaluation.replay.verdicts.verdict import compare, judge_difference
from evaluation.results import Estimate
from features.errors import InputError
from tests.evaluation.replay.verdicts.logs import log

IPS, SNIPS = make_estimator("ips"), make_estimator("snips")


def found_of(sums, estimator):
    return [each for name in sums.policies for each in diagnose(Evidence(sums.policy(name), estimator))]


def uneven(gain: float, rows: int = 6000, seed: int = 0):
    """A uniform logger of two items; the candidate shows the first more often, which earns `gain` more."""
    rng = np.random.default_rng(seed)
    first = rng.random(rows) < 0.5
    reward = rng.random(rows) < 0.3 + gain * first
    candidate, baseline = np.where(first, 1.8, 0.2), np.where(first, 0.2, 1.8)
    return UserSums.of(log(candidate, reward, b=baseline), [make_estimator("clipped_ips@1")])


@pytest.mark.parametrize(
    "low, high, margin, lower_is_better, outcome",
    [
        (0.1, 0.2, 0.0, False, "better"),
        (0.1, 0.2, 0.15, False, "cannot_tell"),
        (0.1, 0.2, 0.0, True, "worse"),
        (-0.2, -0.1, 0.0, False, "worse"),
        (-0.2, -0.1, 0.0, True, "better"),
        (-0.2, -0.1, 0.1, False, "cannot_tell"),
        (-0.1, 0.2, 0.0, False, "cannot_tell"),
        (0.0, 0.0, 0.0, False, "cannot_tell"),
        (None, None, 0.0, False, "withheld"),
    ],
)
def test_the_verdict_of_an_interval(low, high, margin, lower_is_better, outcome):
    assert judge_difference(Estimate(value=0.0, low=low, high=high), margin, lower_is_better) == outcome


@pytest.mark.parametrize("gain, outcome", [(0.1, "better"), (-0.1, "worse"), (0.0, "cannot_tell")])
def test_a_planted_difference_is_told(gain, outcome):
    sums = uneven(gain)
    found = compare(sums, "a", "b", SNIPS, Linearised(), found_of(sums, SNIPS))
    assert found.outcome == outcome and not found.reasons
    assert found.difference.value == pytest.approx(found.candidate_value.value - found.baseline_value.value)
    assert found.power.minimum_detectable > 0 and found.power.units == 6000
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_a_verdict_without_overlap_is_withheld_with_its_reason_and_what_would_lift_it():
    rng = np.random.default_rng(0)
    sums = UserSums.of(log(rng.random(900) < 0.5, rng.random(900) < 0.3, b=np.ones(900)))
    found = compare(sums, "a", "b", SNIPS, Linearised(), found_of(sums, SNIPS))
    assert found.outcome == "withheld" and found.difference.low is not None
    assert any(reason.startswith("a: ") and "does not show what the policy would" in reason for reason in found.reasons)


def test_a_difference_that_rests_on_few_users_is_withheld():
    """Both policies alone are sound; they differ in four rows."""
    rng = np.random.default_rng(1)
    weight = np.ones(2000)
    other = weight.copy()
    other[:4] = (0, 2, 0, 2)
    sums = UserSums.of(log(weight, rng.random(2000) < 0.5, b=other))
    found = compare(sums, "a", "b", IPS, Linearised(), found_of(sums, IPS))
    assert found.outcome == "withheld" and "rests on" in found.reasons[0]


def test_both_policies_need_diagnoses():
    sums = uneven(0.1)
    with pytest.raises(InputError, match="policy `b` has no diagnoses"):
        compare(sums, "a", "b", SNIPS, Linearised(), diagnose(Evidence(sums.policy("a"), SNIPS)))


def test_power_is_the_closed_form():
    """(1.96 + 0.84)² s² n / δ²: about 7.85 times the variance over the effect's square."""
    found = power_of(half=1.959964 * 0.01, error=0.01, units=10_000, effect=0.02, power=0.8)
    assert found.minimum_detectable == pytest.approx(0.0280158, rel=1e-5)
    assert found.units_needed == pytest.approx(7.8489 * 0.01**2 * 10_000 / 0.02**2, rel=1e-3)
    assert power_of(float("nan"), 0.1, 10).minimum_detectable is None
    for wrong in ({"power": 1.0}, {"effect": 0.0}):
        with pytest.raises(InputError):
            power_of(0.1, 0.1, 10, **wrong)


class TestLooks:
    world = World(Scenario(rows=300), seed=1)

    def sums(self, days: int) -> UserSums:
        return UserSums.of(self.world.log(0)).merge(*(UserSums.of(self.world.log(day)) for day in range(1, days)))

    def test_a_fixed_sample_interval_is_refused_a_second_look(self):
        looks = Looks.plan(Linearised()).take(self.sums(1), Linearised())
        with pytest.raises(LookError, match="holds for one look, and one was taken at 300 rows"):
            looks.take(self.sums(2), Linearised())

    def test_the_same_log_is_the_same_look_in_whatever_order(self):
        first, second = UserSums.of(self.world.log(0)), UserSums.of(self.world.log(1))
        looks = Looks.plan(Linearised()).take(first.merge(second), Linearised())
        assert looks.take(second.merge(first), Linearised()) == looks and len(looks.looks) == 1

    def test_a_sequence_is_looked_at_every_day(self, tmp_path):
        tier, path = ConfidenceSequence(planned=900), tmp_path / "looks.json"
        for day in (1, 2, 3):
            looks = read_looks(path, tier).take(self.sums(day), tier)
            looks.write(path)
        assert [look.rows for look in read_looks(path, tier).looks] == [300, 600, 900]

    @pytest.mark.parametrize(
        "other", [Linearised(), ConfidenceSequence(0.9, planned=900), ConfidenceSequence(planned=9)]
    )
    def test_the_plan_cannot_be_changed_after_a_look(self, other):
        looks = Looks.plan(ConfidenceSequence(planned=900)).take(self.sums(1), ConfidenceSequence(planned=900))
        with pytest.raises(LookError, match="was begun with `sequence` at 0.95 for 900 units"):
            looks.take(self.sums(2), other)

    def test_a_file_that_is_no_ledger(self, tmp_path):
        (tmp_path / "looks.json").write_text("{}")
        with pytest.raises(InputError, match="not a ledger of looks"):
            read_looks(tmp_path / "looks.json", Linearised())


class TestSensitivity:
    def table(self, sums, *names, **options):
        kinds = [make_estimator(name) for name in names]
        one = lambda policy, kind: diagnose(Evidence(policy, kind))  # noqa: E731
        return sensitivity(sums, "a", "b", kinds, Linearised(), one, **options)

    def test_estimators_that_agree_are_steady(self):
        found = self.table(uneven(0.1), "ips", "snips")
        assert found.outcome == "steady" and [row.comparison.estimator for row in found.rows] == ["ips", "snips"]
        assert found.rows[1].relative == pytest.approx(0.08 / 0.31, abs=0.1)

    def test_one_that_cannot_tell_moves_the_verdict(self):
        assert self.table(uneven(0.03, rows=2500), "ips", "snips", margin=0.0).outcome in ("steady", "moves")
        sums = UserSums.of(log(np.where(np.arange(4000) % 2, 1.8, 0.2), np.ones(4000), b=np.ones(4000)))
        assert self.table(sums, "ips", "snips").outcome == "steady"

    def test_a_withheld_row_has_no_say(self):
        found = self.table(uneven(0.1), "snips", "clipped_ips@1")
        assert [row.comparison.outcome for row in found.rows] == ["better", "withheld"] and found.outcome == "steady"

    def test_estimators_that_contradict_each_other(self):
        """Weights above 1 all over, the more so without a reward: IPS sees a gain, SNIPS a loss."""
        rng = np.random.default_rng(5)
        reward, noise = rng.random(6000) < 0.5, rng.uniform(0.9, 1.1, 6000)
        sums = UserSums.of(log(np.where(reward, 1.2, 2.0) * noise, reward, b=np.ones(6000)))
        lenient = lambda policy, kind: diagnose(Evidence(policy, kind), {"mean_weight": 9, "contributions": 1})  # noqa: E731
        found = sensitivity(sums, "a", "b", [IPS, SNIPS], Linearised(), lenient)
        assert [row.comparison.outcome for row in found.rows] == ["better", "worse"] and found.outcome == "contradicts"

    def test_all_withheld(self):
        assert self.table(uneven(0.1, rows=200), "ips", "snips").outcome == "withheld"


def test_the_heavy_tail_is_withheld_whatever_it_says():
    sums = UserSums.of(World(SCENARIOS["heavy_tail"]).log(0))
    found = compare(sums, "candidate", "baseline", SNIPS, Linearised(), found_of(sums, SNIPS))
    assert found.outcome == "withheld" and len(found.reasons) >= 2
