"""Weights for `balanced_ips`: a classifier tells a policy's rows from a logger's that logged no propensities.

Each logged row has a twin: the same request and slot with an item that the policy drew. A classifier that says how
likely a row is the policy's makes the weight ŵ = P(policy | row) / P(logger | row) (Sondhi, Arbour, Dimmery, Balanced
off-policy evaluation in general action spaces, AISTATS 2020). Here it is a logistic regression over hashed features;
a row is judged by a classifier that saw none of its user's rows.

    drawn = …                                     the logged rows with items of the policy
    found = balanced_weights(logged, drawn, ["segment", "item_id"], user=users, crosses=[("segment", "item_id")])
    table = logged.append_column("balanced", pa.array(found.weights))
    columns = LogColumns(…, optional={"balanced_weights": {"new": "balanced"}})
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array, dense_codes
from features.encoding.hashing import MIX_1, hash64
from features.errors import InputError

BUCKETS = 1 << 18
QUANTILES = 20
"""Cuts of a feature that is a fraction."""

BINS = 20
"""Of the classifier's answers, within which it is held against what the rows are."""

_LIMIT = 1e-6


@dataclass(frozen=True)
class BalancedWeights:
    """What a classifier found.

    Attributes:
      weights: [N] ŵ of each logged row, by a classifier that saw none of its user's rows.
      calibration_error: how far shares of the policy's rows are from what the classifier said, root mean square over
        bins of its answers, and over strata; the larger, less what chance alone makes. For
        `Evidence.classifier_error`.
    """

    weights: Array
    calibration_error: float


def balanced_weights(
    logged: pa.Table,
    drawn: pa.Table,
    features: Sequence[str],
    user: Array,
    *,
    crosses: Sequence[tuple[str, ...]] = (),
    strata: Array | None = None,
    folds: int = 5,
    penalty: float = 1.0,
) -> BalancedWeights:
    """Learns weights of logged rows.

    Args:
      logged: N rows as logged.
      drawn: the N rows with the policy's item in place of the logged one.
      features: columns of both that tell an item and its context: integers and texts as they are, fractions by their
        20 quantiles.
      user: [N] int64 keys; a user's rows are in one fold.
      crosses: columns whose values are one feature together: without the item crossed with what the policy goes by,
        the classifier cannot tell what the policy does.
      strata: [2N] int codes of the logged rows and then the drawn ones, within which the classifier is checked, e.g. of
        the item's category by the user's segment.
      folds: how many classifiers, each trained without one part of the users.
      penalty: of the squared coefficients, as of one observation; the larger, the nearer are weights to 1.

    Raises:
      InputError: for tables of different lengths, a column that is not there, or fewer users than folds.
    """
    if logged.num_rows != drawn.num_rows or len(user) != logged.num_rows:
        raise InputError(
            "each logged row needs a drawn one and a user. "
            f"Received: {logged.num_rows} logged, {drawn.num_rows} drawn, {len(user)} users."
        )
    codes, count = dense_codes(user)
    if count < folds or folds < 2:
        raise InputError(f"`folds` must be 2 or more, and users as many. Received: {folds} folds, {count} users.")
    rows = _hashed(logged, drawn, features, crosses)
    drawn_by_policy = np.repeat([0.0, 1.0], logged.num_rows)
    fold = np.tile(np.random.default_rng(0).permutation(count)[codes] % folds, 2)
    chance = _predicted(rows, drawn_by_policy, fold, folds, penalty)
    order = np.argsort(chance, kind="stable")
    bins = np.empty(len(order), np.int64)
    bins[order] = np.arange(len(order)) * BINS // len(order)
    errors = [calibration_error(chance, drawn_by_policy, each) for each in (bins, strata) if each is not None]
    mine = chance[: logged.num_rows]
    return BalancedWeights(mine / (1 - mine), max(errors))


def calibration_error(chance: Array, outcome: Array, group: Array) -> float:
    """Root mean square, over groups, of mean outcome less mean chance, less what right chances would leave.

    Args:
      chance: [N] said.
      outcome: [N] 0 or 1.
      group: [N] int codes; a group counts by its rows.
    """
    codes, count = dense_codes(group)
    rows = np.bincount(codes, minlength=count)
    apart = divide(np.bincount(codes, outcome - chance, count), rows)
    noise = divide(np.bincount(codes, chance * (1 - chance), count), rows**2)
    return float(np.sqrt(max(0.0, np.average(apart**2 - noise, weights=rows))))


def _predicted(rows: object, outcome: Array, fold: Array, folds: int, penalty: float) -> Array:
    """[2N] how likely each row is the policy's, by the classifier of the other folds."""
    from sklearn.linear_model import LogisticRegression

    chance = np.empty(len(outcome))
    for number in range(folds):
        held = fold == number
        classifier = LogisticRegression(C=1 / penalty, max_iter=500)
        classifier.fit(rows[~held], outcome[~held])  # type: ignore[index]
        chance[held] = classifier.predict_proba(rows[held])[:, 1]  # type: ignore[index]
    return np.clip(chance, _LIMIT, 1 - _LIMIT)


def _hashed(logged: pa.Table, drawn: pa.Table, features: Sequence[str], crosses: Sequence[tuple[str, ...]]) -> object:
    """A sparse matrix of a 1 for each feature and cross, a column a bucket that has any."""
    from scipy.sparse import csr_matrix

    names = {*features, *(name for cross in crosses for name in cross)}
    hashes = {name: _tokens(logged, drawn, name) for name in names}
    groups = [(name,) for name in features] + [tuple(cross) for cross in crosses]
    buckets = np.stack([_mixed(hashes, group) for group in groups], axis=1)
    column, count = dense_codes(buckets.ravel())
    ones, ends = np.ones(buckets.size), np.arange(0, buckets.size + 1, len(groups))
    return csr_matrix((ones, column, ends), shape=(len(buckets), count))


def _mixed(hashes: dict[str, Array], group: tuple[str, ...]) -> Array:
    mixed = np.zeros(len(hashes[group[0]]), np.uint64)
    for name in group:
        mixed = (mixed + hashes[name]) * np.uint64(MIX_1)
        mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(BUCKETS)).astype(np.int64)


def _tokens(logged: pa.Table, drawn: pa.Table, name: str) -> Array:
    """[2N] uint64, that tell the column and its value."""
    for table in (logged, drawn):
        if name not in table.column_names:
            raise InputError(f"the rows have no column `{name}`. They have: {', '.join(table.column_names)}.")
    values = pa.chunked_array([*logged[name].chunks, *drawn[name].cast(logged[name].type).chunks])
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy()
        cuts = np.nanquantile(numbers, np.linspace(0, 1, QUANTILES + 1)[1:-1])
        values = pa.chunked_array([pa.array(np.searchsorted(cuts, numbers))])
    return hash64(values) + hash64(pa.array([name]))[0]
