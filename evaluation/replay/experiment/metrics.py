"""Metrics of an experiment by variant: means and ratios with their linear forms, adjusted by what was known before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.experiment.users import ExperimentUsers
from features.config import Strict
from features.errors import InputError


class ExperimentMetric(Strict):
    """A mean by user, or a ratio of two sums.

    Attributes:
      name: how reports call it.
      numerator: column that is summed.
      denominator: column that divides, e.g. `rows` for a click rate; None: users, which makes a mean by user.
      covariates: columns from before the experiment by which it is adjusted: what the user did then is CUPED (Deng, Xu,
        Kohavi, Walker, WSDM 2013), a model's prediction of that time is CUPAC. `a/b` is a ratio of two.
      lower_is_better: whether less of it is better.
    """

    name: str
    numerator: str
    denominator: str | None = None
    covariates: tuple[str, ...] = ()
    lower_is_better: bool = False


class Linear(NamedTuple):
    """A value by its linear form: value, and ψ [U] over all users of the experiment, 0 of those of other variants."""

    value: float
    influence: Array


def variant_value(metric: ExperimentMetric, users: ExperimentUsers, variant: str) -> Linear:
    """A metric of one variant.

    A ratio R = Σ y / Σ d has ψ_u = (y_u − R d_u) / Σ d, the delta method by user.

    Raises:
      InputError: for a column that was not summed, or a variant without users.
    """
    there = users.variant == variant
    if not there.any():
        raise InputError(f"variant `{variant}` has no users. Received: {', '.join(sorted(set(users.variant)))}.")
    top = users.column(metric.numerator)
    bottom = np.ones(len(users)) if metric.denominator is None else users.column(metric.denominator)
    total = bottom[there].sum()
    value = divide(top[there].sum(), total)
    return Linear(float(value), np.where(there, divide(top - value * bottom, np.full(len(users), total)), 0.0))


def adjusted(metric: ExperimentMetric, users: ExperimentUsers, first: str, second: str) -> tuple[Linear, Linear]:
    """A metric of two variants, adjusted by its covariates.

    With l_u the linear form of the user scaled by the variant's users, and x_u the covariates,

        V_v − θ' (x̄_v − x̄),   θ = Σ_v cov_v(x, x)⁻¹ Σ_v cov_v(x, l),

    x̄ over both variants. As x was there before the variants were drawn, x̄_v − x̄ is 0 in expectation, and the
    adjustment takes away variance and no effect. A user without a covariate counts at the mean of the others, and one
    covariate more says who they are.
    """
    values = [variant_value(metric, users, variant) for variant in (first, second)]
    if not metric.covariates:
        return values[0], values[1]
    masks = [users.variant == variant for variant in (first, second)]
    known = _covariates(metric.covariates, users, masks[0] | masks[1])
    inner = [known[mask] - known[mask].mean(axis=0) for mask in masks]
    forms = [value.influence[mask] * mask.sum() for value, mask in zip(values, masks, strict=True)]
    square = sum(x.T @ x for x in inner)
    slope = np.linalg.pinv(square, hermitian=True) @ sum(x.T @ form for x, form in zip(inner, forms, strict=True))
    middle = known[masks[0] | masks[1]].mean(axis=0)
    found = []
    for value, mask, x in zip(values, masks, inner, strict=True):
        influence = np.zeros(len(users))
        influence[mask] = value.influence[mask] - x @ slope / mask.sum()
        found.append(Linear(value.value - float((known[mask].mean(axis=0) - middle) @ slope), influence))
    return found[0], found[1]


def difference(candidate: Linear, baseline: Linear) -> Linear:
    """Candidate less baseline."""
    return Linear(candidate.value - baseline.value, candidate.influence - baseline.influence)


def relative_difference(candidate: Linear, baseline: Linear) -> Linear:
    """Candidate over baseline, less 1; NaN of a baseline of 0."""
    whole = np.full(len(baseline.influence), baseline.value)
    ratio = divide(candidate.value, baseline.value)
    return Linear(float(ratio - 1), divide(candidate.influence - ratio * baseline.influence, whole))


def covariate_gap(name: str, users: ExperimentUsers, first: str, second: str) -> Linear:
    """A covariate's mean in one variant less that in the other: 0 in expectation of what was there before."""
    masks = [users.variant == variant for variant in (first, second)]
    known = _covariates((name,), users, masks[0] | masks[1])[:, 0]
    found = []
    for mask in masks:
        mean = known[mask].mean()
        found.append(Linear(float(mean), np.where(mask, known - mean, 0.0) / mask.sum()))
    return difference(found[0], found[1])


def _covariates(names: Sequence[str], users: ExperimentUsers, within: Array) -> Array:
    """[U, C] covariates, ratios by their linear form, and one more where some users have none."""
    columns, missing = [], np.zeros(len(users), bool)
    for name in names:
        top, _, bottom = name.partition("/")
        column = users.column(top)
        if bottom:
            below = users.column(bottom)
            there = within & np.isfinite(column) & np.isfinite(below)
            column = column - divide(column[there].sum(), below[there].sum()) * below
        missing |= ~np.isfinite(column)
        there = within & np.isfinite(column)
        columns.append(np.where(np.isfinite(column), column, column[there].mean() if there.any() else 0.0))
    return np.stack(columns + ([missing.astype(np.float64)] if missing.any() else []), axis=1)
