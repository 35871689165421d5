import numpy as np
import pytest

from evaluation.bootstrap import bootstrap, estimate, ones


def mean_of(values):
    return lambda weights: np.array([weights @ values / weights.sum()])


@pytest.mark.parametrize("scheme", ["poisson", "multinomial"])
def test_replicates_spread_as_the_mean_does(scheme):
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap({"m": mean_of(values)}, 400, 500, seed=1, scheme=scheme)["m"]
    assert found.std() == pytest.approx(values.std() / 20, rel=0.1)
    assert mean_of(values)(ones(400)) == pytest.approx(values.mean())


def test_seeds_decide():
    statistics = {"m": mean_of(np.arange(50.0))}
    first, again, other = (bootstrap(statistics, 50, 20, seed=s)["m"] for s in (1, 1, 2))
    np.testing.assert_allclose(first, again, rtol=1e-12)
    assert not np.allclose(first, other)


def test_no_interval_where_replicates_are_often_undefined():
    values = np.linspace(0, 1, 100)
    assert estimate(0.5, values, 0.9).low == pytest.approx(0.05)
    assert estimate(0.5, np.where(values < 0.2, np.nan, values)).low is None
    assert estimate(np.nan, values).value is None


def test_errors():
    with pytest.raises(ValueError, match="`scheme` must be poisson or multinomial"):
        bootstrap({}, 3, scheme="rows")
