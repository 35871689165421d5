"""Baselines a model is shown beside: popularity, the item's click rate, and on simulated logs the truth.

The first two know nothing of the user: what a model earns beyond them is personalisation. They are fitted on the train
split alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.metrics.rows import Array
from features import storage
from features.arrow import one_chunk, read_parquet
from features.errors import InputError
from features.examples.shards import list_shards

POPULARITY, ITEM_CTR, ORACLE = "popularity", "item_ctr", "oracle"
"""Names of the baselines."""

PRIOR_STRENGTH = 20.0
"""Impressions at the mean click rate that every item is given (see `ItemCounts.click_rate`)."""


@dataclass(frozen=True)
class Baseline:
    """Scores of a baseline, one for each row of the predictions.

    Attributes:
      name: `popularity`, `item_ctr`, `oracle` or another.
      description: how the scores come about.
      score: float64 [N].
      calibrated: whether scores are probabilities.
    """

    name: str
    description: str
    score: Array
    calibrated: bool


@dataclass(frozen=True)
class ItemCounts:
    """Impressions and clicks of every item in the train split: arrays of the same length, items unique."""

    item_id: pa.Array
    impressions: Array
    clicks: Array

    def popularity(self, item_id: pa.Array | pa.ChunkedArray) -> Baseline:
        """How often the item was clicked in the train split, [N]; unseen items score 0."""
        description = "number of clicks of the item in the train split"
        return Baseline(POPULARITY, description, self._of(item_id, self.clicks), False)

    def click_rate(self, item_id: pa.Array | pa.ChunkedArray, prior_strength: float = PRIOR_STRENGTH) -> Baseline:
        """The item's smoothed click rate: (clicks + a · r) / (impressions + a), r the train split's click rate.

        It is the posterior mean under a Beta prior of mean r that weighs as much as a impressions; unseen items get r.

        Args:
          item_id: [N] of the rows to score.
          prior_strength: a.
        """
        if prior_strength <= 0:
            raise ValueError(f"`prior_strength` must be positive. Received: `prior_strength`={prior_strength}.")
        rate = self.clicks.sum() / max(1, self.impressions.sum())
        clicks, impressions = self._of(item_id, self.clicks), self._of(item_id, self.impressions)
        score = (clicks + prior_strength * rate) / (impressions + prior_strength)
        description = (
            f"click rate of the item in the train split, smoothed with {prior_strength:g} impressions at the mean "
            f"rate {rate:.4f}"
        )
        return Baseline(ITEM_CTR, description, score, True)

    def clicks_of(self, item_id: pa.Array) -> Array:
        """Clicks of each item, [N] int64; 0 for one that was never shown."""
        return self._of(item_id, self.clicks).astype(np.int64)

    def most_clicked(self, count: int) -> pa.Table:
        """The items with clicks, at most `count`: `item_id` and `clicks` (int64), most clicks first, then by id."""
        order = [("clicks", "descending"), ("item_id", "ascending")]
        counted = pa.table({"item_id": self.item_id, "clicks": self.clicks.astype(np.int64)})
        return counted.filter(pc.greater(counted["clicks"], 0)).sort_by(order).slice(0, count)

    def _of(self, item_id: pa.Array | pa.ChunkedArray, counts: Array) -> Array:
        at = pc.index_in(one_chunk(item_id).cast(self.item_id.type), value_set=self.item_id)
        at = pc.fill_null(at, len(counts)).to_numpy(zero_copy_only=False)
        found: Array = np.append(counts, 0).astype(np.float64)[at]
        return found


def count_items(examples_dir: storage.AnyPath, label: str, split: str = "train") -> ItemCounts:
    """Counts impressions and clicks per item over the raw examples of a split, file by file.

    Args:
      examples_dir: holds `Split-<split>/requests-*.parquet` (docs/reference/data_formats.md).
      label: name of the label column.
      split: the split to count; baselines may only see `train`.

    Raises:
      FileNotFoundError: if the split has no files.
    """
    parts = []
    for file in list_shards(examples_dir, split):
        table = read_parquet(file, ["item_id", label])
        flat = pa.table({name: pc.list_flatten(table[name]) for name in ("item_id", label)})
        parts.append(flat.group_by("item_id").aggregate([(label, "sum"), ("item_id", "count")]))
    total = pa.concat_tables(parts).group_by("item_id")
    total = total.aggregate([(f"{label}_sum", "sum"), ("item_id_count", "sum")])
    return ItemCounts(
        one_chunk(total["item_id"]),
        total["item_id_count_sum"].to_numpy().astype(np.float64),
        total[f"{label}_sum_sum"].to_numpy().astype(np.float64),
    )


def oracle(predictions: pa.Table, truth: storage.AnyPath | pa.Table) -> Baseline:
    """The simulator's own click probabilities: no model can rank better than these, but for luck.

    Args:
      predictions: with `request_id` and `item_id`.
      truth: table, Parquet file or folder of them, with `request_id`, `item_id`, `click_probability`.

    Raises:
      InputError: where a row of the predictions has no truth, or more than one.
    """
    keys = ["request_id", "item_id"]
    if not isinstance(truth, pa.Table):
        files = storage.entries(truth, "*.parquet") if storage.is_folder(truth) else [truth]
        truth = pa.concat_tables([read_parquet(file, [*keys, "click_probability"]) for file in files])
    at = match_rows(predictions.select(keys), truth.select(keys), "the truth")
    if (at < 0).any():
        raise InputError(
            f"{int((at < 0).sum())} of {len(at)} predicted rows are not in the truth: is it of another simulation?"
        )
    score = one_chunk(truth["click_probability"]).to_numpy(zero_copy_only=False)[at]
    return Baseline(ORACLE, "the simulator's click probability of every impression", score.astype(np.float64), True)


def match_rows(left: pa.Table, right: pa.Table, right_name: str) -> Array:
    """For each row of `left`, the row of `right` with the same keys (all columns of both); -1 where there is none.

    Raises:
      InputError: if keys repeat in `right`.
    """
    keys = left.column_names
    right = right.select(keys).cast(left.schema.remove_metadata()) if right.schema != left.schema else right
    right = right.append_column("_right", pa.array(np.arange(right.num_rows)))
    left = left.append_column("_left", pa.array(np.arange(left.num_rows)))
    # The wanted rows first: a truth is often ten times larger than what is evaluated.
    right = right.filter(pc.is_in(right[keys[0]], value_set=one_chunk(left[keys[0]])))
    joined = left.join(right, keys=keys, join_type="inner")
    rows = joined["_left"].to_numpy()
    found = np.full(left.num_rows, -1, np.int64)
    found[rows] = joined["_right"].to_numpy()
    if len(rows) != (found >= 0).sum():
        raise InputError(f"{' and '.join(keys)} must be unique in {right_name}; {len(rows)} rows match {len(found)}.")
    return found


def lead_share(model: Array | float, item_ctr: Array | float, best: Array | float) -> Array:
    """(AUC_model − AUC_itemCTR) / (AUC_oracle − AUC_itemCTR); NaN where the oracle has no lead."""
    lead = np.asarray(best, np.float64) - item_ctr
    return np.divide(np.asarray(model) - item_ctr, lead, out=np.full(lead.shape, np.nan), where=lead > 0)
