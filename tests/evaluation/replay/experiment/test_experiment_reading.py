"""Reading an experiment: closed forms, A/A, adjustment that takes away variance and no effect, slices, days."""

import numpy as np
import pyarrow as pa
import pytest

from evaluation.replay.experiment.days import read_days
from evaluation.replay.experiment.metrics import ExperimentMetric, adjusted, difference, variant_value
from evaluation.replay.experiment.read import read_experiment
from evaluation.replay.experiment.slices import read_slices
from evaluation.replay.experiment.users import SEVERAL_VARIANTS, ExperimentUsers, read_users
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.linearised import standard_error
from features.errors import InputError

MEAN, RATE = (
    ExperimentMetric(name="value", numerator="value"),
    ExperimentMetric(name="ctr", numerator="clicks", denominator="rows"),
)
CUPED = ExperimentMetric(name="value", numerator="value", covariates=("value_before",))
HALVES = {"new": 1, "old": 1}


def users(seed: int, count: int = 2000, effect: float = 0.0, **slices) -> ExperimentUsers:
    """Users whose value is mostly what it was before, who come 1 to 30 times, and click at rates of their own."""
    rng = np.random.default_rng(seed)
    variant = np.where(rng.random(count) < 0.5, "new", "old")
    before, rows = rng.normal(10, 3, count), rng.integers(1, 31, count).astype(float)
    value = before + rng.normal(0, 1, count) + effect * (variant == "new")
    clicks = rng.binomial(rows.astype(int), rng.beta(1, 6, count)).astype(float)
    sums = {"value": value, "value_before": before, "rows": rows, "clicks": clicks}
    return ExperimentUsers(variant, sums, slices={name: make(rng, count) for name, make in slices.items()})


def outcomes(seeds: int, metric: ExperimentMetric, **more) -> list[str]:
    return [read_experiment(users(s, **more), [metric], HALVES, "new", "old").metrics[0].outcome for s in range(seeds)]


def false_ones(found: list[str]) -> float:
    return sum(outcome in ("better", "worse") for outcome in found) / len(found)


def test_the_difference_of_means_is_welchs():
    found, data = read_experiment(users(0), [MEAN], HALVES, "new", "old"), users(0)
    a, b = (data.sums["value"][data.variant == name] for name in ("new", "old"))
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    reading = found.metrics[0]
    assert reading.difference.value == pytest.approx(a.mean() - b.mean())
    assert (reading.difference.high - reading.difference.low) / 2 == pytest.approx(1.962 * error, rel=0.01)
    assert reading.relative.value == pytest.approx(a.mean() / b.mean() - 1)
    assert reading.variance_left == pytest.approx(1) and found.users == {"new": len(a), "old": len(b)}


def test_the_error_of_a_ratio_is_the_delta_methods_by_user():
    data = users(1)
    there = data.variant == "new"
    top, bottom = data.sums["clicks"][there], data.sums["rows"][there]
    found, n = variant_value(RATE, data, "new"), there.sum()
    cov = np.cov(top, bottom)
    ratio = top.mean() / bottom.mean()
    delta = (cov[0, 0] - 2 * ratio * cov[0, 1] + ratio**2 * cov[1, 1]) / bottom.mean() ** 2 / n
    assert found.value == pytest.approx(ratio)
    assert standard_error(found.influence) ** 2 == pytest.approx(delta, rel=2 / n)
    naive = ratio * (1 - ratio) / bottom.sum()
    assert delta > 1.5 * naive  # rows of a user are alike


@pytest.mark.parametrize("metric", [MEAN, RATE, CUPED], ids=["mean", "ratio", "cuped"])
def test_equal_variants_get_verdicts_as_often_as_said(metric):
    assert false_ones(outcomes(400, metric, count=400)) == pytest.approx(0.05, abs=0.044)


def test_cuped_takes_away_variance_and_no_effect():
    found = [read_experiment(users(s, effect=0.15), [MEAN, CUPED], HALVES, "new", "old").metrics for s in range(60)]
    plain, better = zip(*found, strict=True)
    assert np.mean([each.variance_left for each in better]) == pytest.approx(0.1, abs=0.01)  # 1 / (1 + 9)
    assert np.mean([each.difference.value for each in better]) == pytest.approx(0.15, abs=4 * 0.045 / np.sqrt(60))
    assert sum(each.outcome == "better" for each in better) > 3 * sum(each.outcome == "better" for each in plain)


def test_cuped_is_the_textbooks():
    """θ = cov(Y, X) / var(X), pooled within variants, and Y − θ (X − mean X)."""
    data = users(2)
    first, second = adjusted(CUPED, data, "new", "old")
    y, x = data.sums["value"], data.sums["value_before"]
    masks = [data.variant == name for name in ("new", "old")]
    inner = [(y[m] - y[m].mean(), x[m] - x[m].mean()) for m in masks]
    theta = sum(a @ b for a, b in inner) / sum(b @ b for _, b in inner)
    made = y - theta * (x - x.mean())
    assert (first.value, second.value) == pytest.approx(tuple(made[m].mean() for m in masks))


def test_cupac_by_a_ratio_and_users_without_a_covariate():
    data = users(3)
    rng = np.random.default_rng(3)
    predicted = data.sums["clicks"] / data.sums["rows"] + rng.normal(0, 0.05, len(data))
    predicted[::10] = np.nan
    sums = {**data.sums, "predicted": predicted}
    with_prediction = ExperimentUsers(data.variant, sums)
    metric = RATE.model_copy(update={"covariates": ("predicted", "value/value_before")})
    plain, better = (difference(*adjusted(m, with_prediction, "new", "old")) for m in (RATE, metric))
    assert standard_error(better.influence) < 0.8 * standard_error(plain.influence)
    assert np.isfinite(better.value)


def test_a_covariate_that_the_variant_changed_is_withheld():
    data = users(4, effect=2.0)
    leaked = ExperimentUsers(data.variant, {**data.sums, "value_before": data.sums["value"]})
    found = read_experiment(leaked, [CUPED], HALVES, "new", "old").metrics[0]
    assert found.outcome == "withheld" and "cannot have changed" in found.reasons[0]


def test_lost_users_withhold_everything():
    data = users(5)
    lost = (data.variant == "new") & (np.arange(len(data)) % 5 == 0)
    found = read_experiment(data.where(~lost), [MEAN, RATE], HALVES, "new", "old")
    assert found.sample_ratio < 0.001 and [each.outcome for each in found.metrics] == ["withheld"] * 2
    assert "find where they are lost" in found.reasons[0]


def test_less_of_a_cost_is_better_and_few_payers_are_withheld():
    cost = MEAN.model_copy(update={"lower_is_better": True})
    assert read_experiment(users(6, effect=-2.0), [cost], HALVES, "new", "old").metrics[0].outcome == "better"
    data = users(6)
    rare = ExperimentUsers(data.variant, {"value": (np.arange(len(data)) < 6).astype(float)})
    assert read_experiment(rare, [MEAN], HALVES, "new", "old").metrics[0].outcome == "withheld"


def test_a_sequence_reads_every_day_and_a_wanted_effect_says_how_many_users():
    tier = ConfidenceSequence(planned=2000)
    found = read_experiment(users(7), [MEAN], HALVES, "new", "old", tier, {"value": 0.1})
    fixed = read_experiment(users(7), [MEAN], HALVES, "new", "old", effect={"value": 0.1})
    wide, narrow = (each.metrics[0].difference for each in (found, fixed))
    assert wide.low < narrow.low and found.interval == "sequence"
    assert fixed.metrics[0].power.units_needed == pytest.approx(7.85 * 4 * 10 / 0.1**2, rel=0.1)


@pytest.mark.parametrize("name", ["nobody", "old"])
def test_a_variant_must_be_there(name):
    with pytest.raises(InputError, match="has no share|has no users"):
        read_experiment(users(8).where(users(8).variant == "new"), [MEAN], HALVES, "new", name)


class TestSlices:
    city = {"city": lambda rng, count: np.array([f"c{i}" for i in range(20)])[rng.integers(0, 20, count)]}

    def test_of_twenty_slices_without_an_effect_none_is_told_as_often_as_said(self):
        alarms = naive = 0
        for seed in range(100):
            found = read_slices(users(seed, count=5000, **self.city), CUPED, "new", "old", min_users=100)
            told = {each.outcome for each in found.slices}
            alarms += bool(told & {"better", "worse"})
            level = read_slices(users(seed, count=5000, **self.city), CUPED, "new", "old", level=0.4, min_users=100)
            naive += any(each.outcome != "cannot_tell" for each in level.slices)
        assert alarms <= 14 and naive > 30  # 5 %, and 60 %

    def test_a_planted_slice_is_told_alone(self):
        data = users(9, count=5000, **self.city)
        hurt = (data.slices["city"] == "c7") & (data.variant == "new")
        planted = ExperimentUsers(data.variant, {**data.sums, "value": data.sums["value"] - hurt}, slices=data.slices)
        found = read_slices(planted, CUPED, "new", "old", min_users=100)
        assert {each.value: each.outcome for each in found.slices if each.outcome != "cannot_tell"} == {"c7": "worse"}
        assert len(found.slices) == 20 and read_slices(planted, CUPED, "new", "old", min_users=10**4).omitted == 20
        with pytest.raises(InputError, match="not read as a slice"):
            read_slices(planted, CUPED, "new", "old", ["town"])


class TestDays:
    def data(self, seed: int, fades: bool) -> ExperimentUsers:
        """Users with a level of their own on all days; the effect is 1 and gone after six days, or stays."""
        rng, count, days = np.random.default_rng(seed), 800, 7
        variant = np.where(rng.random(count) < 0.5, "new", "old")
        effect = np.linspace(1, 0, days) if fades else np.full(days, 0.5)
        value = rng.normal(5, 2, (count, 1)) + rng.normal(size=(count, days)) + effect * (variant == "new")[:, None]
        there = rng.random((count, days)) < 0.6
        sums = {"value": value * there, "rows": there.astype(float)}
        return ExperimentUsers(variant, {k: v.sum(axis=1) for k, v in sums.items()}, sums, range(days))

    def test_an_effect_that_wears_off_is_novelty_and_one_that_stays_is_not(self):
        fading = [read_days(self.data(s, True), MEAN, "new", "old") for s in range(40)]
        staying = [read_days(self.data(s, False), MEAN, "new", "old") for s in range(100)]
        assert np.mean([each.trend.value for each in fading]) == pytest.approx(-1 / 6, abs=0.03)
        assert sum(each.novelty for each in fading) >= 36 and sum(each.novelty for each in staying) <= 13
        assert [day.day for day in fading[0].days] == list("0123456") and fading[0].days[0].users < 800

    def test_the_error_of_the_trend_is_that_of_users_own_slopes(self):
        data, days = self.data(0, False), np.arange(7) - 3
        value = np.random.default_rng(1).normal(size=(len(data), 7)) + 5 * np.random.default_rng(2).normal(
            size=(len(data), 1)
        )
        found = read_days(
            ExperimentUsers(data.variant, {}, {"value": value, "rows": np.ones_like(value)}, range(7)),
            MEAN,
            "new",
            "old",
        )
        slopes = value @ days / (days @ days)
        a, b = (slopes[data.variant == name] for name in ("new", "old"))
        error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        assert found.trend.value == pytest.approx(a.mean() - b.mean(), abs=0.1 * error)
        assert (found.trend.high - found.trend.low) / 2 == pytest.approx(1.96 * error, rel=0.05)

    def test_users_read_without_days(self):
        with pytest.raises(InputError, match="without days"):
            read_days(users(0), MEAN, "new", "old")


class TestReadUsers:
    rows = pa.table(
        {
            "user_id": ["a", "b", "a", "c", "b", "d", "d"],
            "variant": ["new", "old", "new", "old", "old", "new", "old"],
            "click": [1, 0, 1, 1, 0, 1, 1],
            "day": [1, 1, 2, 2, 2, 1, 2],
            "city": ["x", "y", "y", "x", "y", "x", "x"],
        }
    )

    def test_rows_are_summed_by_user_and_day_and_users_of_two_variants_are_counted(self):
        before = pa.table({"user_id": ["a", "c", "z"], "click_before": [5.0, 2.0, 9.0]})
        found = read_users(self.rows, ["click"], day="day", slices=["city"], before=before)
        assert found.variant.tolist() == ["new", "old", "old"] and found.excluded == {SEVERAL_VARIANTS: 1}
        assert found.sums["click"].tolist() == [2, 0, 1] and found.sums["rows"].tolist() == [2, 2, 1]
        assert found.days == [1, 2] and found.day_sums["click"].tolist() == [[1, 1], [0, 0], [0, 1]]
        assert found.slices["city"].tolist() == ["x", "y", "x"]
        np.testing.assert_array_equal(found.sums["click_before"], [5, np.nan, 2])

    def test_many_users_in_two_variants_withhold_everything(self):
        found = read_experiment(read_users(self.rows, ["click"]), [], HALVES, "new", "old")
        assert "seen in several variants" in found.reasons[0]

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"click": [1, None, 1, 1, 0, 1, 1]}, "`click` must not be null; it is in 1 rows"),
            ({"click": [1.0, float("inf"), 1, 1, 0, 1, 1]}, "`click` must be finite"),
            ({"user_id": ["a", None, "a", "c", "b", "d", "d"]}, "`user_id` must not be null"),
        ],
    )
    def test_bad_rows(self, change, message):
        with pytest.raises(InputError, match=message):
            read_users(pa.table({**self.rows.to_pydict(), **change}), ["click"])

    def test_bad_columns_and_covariates(self):
        with pytest.raises(InputError, match="no column `clicks`"):
            read_users(self.rows, ["clicks"])
        with pytest.raises(InputError, match="without rows"):
            read_users(self.rows.slice(0, 0), ["click"])
        twice = pa.table({"user_id": ["a", "a"], "before": [1.0, 2.0]})
        with pytest.raises(InputError, match="one row a user"):
            read_users(self.rows, ["click"], before=twice)
        with pytest.raises(InputError, match="name it otherwise"):
            read_users(self.rows, ["click"], before=pa.table({"user_id": ["a"], "click": [1.0]}))
        with pytest.raises(InputError, match="was not summed"):
            read_experiment(read_users(self.rows, ["click"]), [MEAN], HALVES, "new", "old")
