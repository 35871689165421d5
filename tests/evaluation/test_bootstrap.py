import numpy as np
import pytest

from evaluation.bootstrap import MetricStatistics, bootstrap, estimate, ones
from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows


def sample(seed, users=150):
    """Users differ in how often they click and in how well their rows are ordered: rows of a user are alike."""
    generator = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 20)
    quality, level = generator.normal(1, 1, users)[user], generator.normal(-1, 1, users)[user]
    x = generator.normal(size=len(user))
    label = (generator.random(len(user)) < 1 / (1 + np.exp(-(level + quality * x)))).astype(float)
    return ScoredRows(label, 1 / (1 + np.exp(1 - x)), user, np.arange(len(user)) // 5)


@pytest.mark.parametrize("scheme", ["poisson", "multinomial"])
def test_intervals_cover_the_truth_as_often_as_they_say(scheme):
    names, trials = ("auc", "gauc_user", "log_loss", "pcoc"), 150
    truth = np.array(list(compute_metrics(sample(999, users=40_000), names).values()))
    covered, narrow = np.zeros(len(names)), 0
    for trial in range(trials):
        rows = sample(trial)
        found = bootstrap({"m": MetricStatistics(rows, names)}, 150, 120, seed=trial, scheme=scheme)["m"]
        low, high = np.quantile(found, [0.05, 0.95], axis=0)
        covered += (low <= truth) & (truth <= high)
        # the control: rows resampled as if each were a user of its own
        if trial < 40:
            alone = ScoredRows(rows.label, rows.score, np.arange(len(rows)), np.arange(len(rows)))
            found = bootstrap({"m": MetricStatistics(alone, ["pcoc"])}, len(rows), 120, seed=trial)["m"]
            narrow += np.quantile(found, 0.05) <= truth[3] <= np.quantile(found, 0.95)
    # 90% nominal; 150 trials have a standard error of 2.4%
    assert (np.abs(covered / trials - 0.9) < 0.075).all(), covered / trials
    assert narrow / 40 < 0.75, narrow / 40


def test_paired_differences_are_narrower_than_independent_ones():
    rows = sample(0)
    other = ScoredRows(rows.label, rows.score**1.5 + 0.01 * np.sin(np.arange(len(rows))) + 0.1, rows.user, rows.request)
    both = {"a": MetricStatistics(rows, ["auc"]), "b": MetricStatistics(other, ["auc"])}
    found = bootstrap(both, 150, 200, seed=3)
    paired = (found["a"] - found["b"]).std()
    apart = np.hypot(found["a"].std(), found["b"].std())
    assert 0 < paired < apart / 5


def test_seeds_decide():
    statistics = {"m": MetricStatistics(sample(0), ["auc", "pcoc"])}
    first, again, other = (bootstrap(statistics, 150, 20, seed=s)["m"] for s in (1, 1, 2))
    np.testing.assert_allclose(first, again, rtol=1e-12)
    assert not np.allclose(first, other)


def test_weights_are_of_all_users_though_the_rows_are_of_some():
    rows = ScoredRows([1.0, 0.0, 0.0], [0.9, 0.1, 0.95], [4, 1, 2], [0, 1, 2])
    statistic = MetricStatistics(rows, ["auc", "pcoc"])
    np.testing.assert_allclose(statistic(ones(6)), [0.5, 1.95])
    np.testing.assert_allclose(statistic(np.array([9, 3, 1, 9, 2, 9], np.uint8)), [0.75, (2 * 0.9 + 0.3 + 0.95) / 2])
    np.testing.assert_allclose(statistic(np.array([1, 1, 1, 1, 0, 1], np.uint8)), [np.nan, np.nan])


def test_no_interval_where_replicates_are_often_undefined():
    values = np.linspace(0, 1, 100)
    assert estimate(0.5, values, 0.9).low == pytest.approx(0.05)
    assert estimate(0.5, np.where(values < 0.2, np.nan, values)).low is None
    assert estimate(np.nan, values).value is None


def test_errors():
    rows = ScoredRows([1.0, 0.0], [0.9, 0.1], [0, 1], [7, 7])
    with pytest.raises(ValueError, match="a request must have one user"):
        MetricStatistics(rows, ["mrr"])
    with pytest.raises(ValueError, match="`ece_equal_mass` has no bootstrap interval"):
        MetricStatistics(rows, ["ece_equal_mass"])
    with pytest.raises(ValueError, match="`scheme` must be poisson or multinomial"):
        bootstrap({}, 3, scheme="rows")
