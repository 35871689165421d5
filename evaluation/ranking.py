"""Judges a ranker: metrics with intervals, slices, baselines, the live model beside it, gates and the verdict.

```python
result = evaluate(predictions, EvaluationConfig(), baselines=[counts.click_rate(predictions["item_id"])])
result.save(directory)
```
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.baselines import ITEM_CTR, ORACLE, Baseline, lead_share, match_rows
from evaluation.config import KEY_COLUMNS, EvaluationConfig
from evaluation.gates import judge, why_unjudged
from evaluation.intervals import MetricStatistics, effective_users, estimate
from evaluation.metrics.pointwise import equal_mass_bins
from evaluation.metrics.registry import compute_metrics, make_metric
from evaluation.metrics.rows import Array, ScoredRows
from evaluation.results import (
    Counts,
    Estimate,
    EvaluationResult,
    LiveComparison,
    MetricDifference,
    MetricSet,
    ReliabilityBin,
    SliceDifference,
    SliceResult,
)
from evaluation.slices import Slice, find_slices
from features.arrow import one_chunk, to_numpy
from features.config import nearest
from features.errors import InputError


def evaluate(
    predictions: pa.Table,
    config: EvaluationConfig | None = None,
    live_predictions: pa.Table | None = None,
    baselines: Sequence[Baseline] = (),
    anchor_predictions: pa.Table | None = None,
    unscored: str = "",
) -> EvaluationResult:
    """Evaluates scored rows and decides on the blessing.

    Args:
      predictions: one row an impression: `KEY_COLUMNS` and the slice features. `label` is 0 or 1, `score` a
        probability.
      config: what to measure and to demand.
      live_predictions: the live model's scores of the same rows, matched by `request_id` and `item_id`. None: there is
        no live model, or it is `unscored`; only the absolute gates judge.
      baselines: scores aligned with the rows of `predictions` (`evaluation/baselines.py`). With `item_ctr` and
        `oracle` among them the result holds the share of the oracle's lead.
      anchor_predictions: scores of the anchor, the last model that was shown to be better or was set by hand, matched
        likewise. None: the live model is the anchor, or there is none.
      unscored: why the live model could not be scored, as a sentence.

    Raises:
      InputError: for missing columns, nulls, no rows, labels other than 0 and 1, scores outside [0, 1].
      ValueError: for scores of a live model that is said to be unscored.
    """
    if unscored and live_predictions is not None:
        raise ValueError(f"`unscored` must be '' where there are `live_predictions`. Received: {unscored!r}.")
    config = config or EvaluationConfig()
    level = config.interval_level
    rows = scored_rows(predictions)
    slices, omitted = find_slices(predictions, config.slices)
    names = tuple(dict.fromkeys(config.metrics))
    # Sorting and counting let go of Python's lock: a thread a core.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        scores = pool.submit(_Scores, "model", "the evaluated model", rows, names, True)
        baseline_scores = pool.map(lambda each: _baseline_scores(each, rows, names), baselines)
        cut = list(pool.map(lambda part: MetricStatistics(rows.take(part.rows), config.slice_metrics), slices))
        model, others = scores.result(), list(baseline_scores)
        live = anchor = None
        if live_predictions is not None:
            beside = _Beside(predictions, live_predictions, "the live predictions", rows, model, config)
            live = pool.submit(beside.result, slices, cut)
        if anchor_predictions is not None:
            beside = _Beside(predictions, anchor_predictions, "the anchor's predictions", rows, model, config)
            anchor = pool.submit(beside.result)
    counts, model_set = _count(rows, predictions), model.metric_set(level)
    lead = _lead_over_baselines(model, others, level)
    slice_results = tuple(
        _slice_result(part, rows, statistics, config) for part, statistics in zip(slices, cut, strict=True)
    )
    beside_live = live.result() if live else None
    if unscored:
        beside_live = LiveComparison(rows=0, metrics={}, unscored=unscored)
    beside_anchor = anchor.result() if anchor else None
    gates = judge(config.gates, counts, model_set, slice_results, beside_live, beside_anchor, lead)
    return EvaluationResult(
        counts=counts,
        model=model_set,
        baselines=tuple(scores.metric_set(level) for scores in others),
        lead_share=_lead_share(model, others, level),
        slices=slice_results,
        omitted_slices=tuple(omitted),
        reliability=reliability_bins(rows.label[rows.by_score], rows.score[rows.by_score], config.reliability_bins),
        live=beside_live,
        anchor=beside_anchor,
        gates=gates,
        blessed=all(gate.passed for gate in gates),
        interval_level=level,
    )


def scored_rows(predictions: pa.Table) -> ScoredRows:
    """Checks a predictions table and turns it into arrays; users and requests become codes from 0."""
    for name in KEY_COLUMNS:
        if name not in predictions.column_names:
            raise InputError(f"the predictions have no column `{name}`.{nearest(name, predictions.column_names)}")
        if name != "position" and predictions[name].null_count:
            raise InputError(f"`{name}` of the predictions must not be null: {predictions[name].null_count} rows are.")
    if not predictions.num_rows:
        raise InputError("the predictions must not be empty: is the evaluated split empty?")
    user, request = (pc.dictionary_encode(one_chunk(predictions[name])) for name in ("user_id", "request_id"))
    rows = ScoredRows(
        label=to_numpy(one_chunk(predictions["label"])),
        score=to_numpy(one_chunk(predictions["score"])),
        user=user.indices.to_numpy(),
        request=request.indices.to_numpy(),
    )
    outside = (rows.score < 0) | (rows.score > 1)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(f"`score` must be a probability. Received: `score`[{row}]={rows.score[row]}.")
    return rows


def reliability_bins(label: Array, score: Array, num_bins: int = 20, z: float = 1.96) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram: equal-mass bins with Wilson's interval around the observed rate.

    Args:
      label: [N], 0 or 1.
      score: [N], probabilities.
      num_bins: at most this many; empty ones are left out.
      z: quantile of the normal distribution; 1.96 gives 95%.
    """
    bins = equal_mass_bins(score, num_bins)
    found = []
    for b in np.unique(bins):
        scores, labels = score[bins == b], label[bins == b]
        count, rate = len(labels), float(labels.mean())
        middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
        observed = Estimate(value=rate, low=max(0.0, middle - half), high=min(1.0, middle + half))
        found.append(
            ReliabilityBin(
                lowest=scores.min(), highest=scores.max(), mean_score=scores.mean(), observed=observed, rows=count
            )
        )
    return tuple(found)


class _Scores:
    """Scores of all rows: statistics where metrics have intervals, plain values where not."""

    def __init__(self, name: str, description: str, rows: ScoredRows, names: Sequence[str], calibrated: bool):
        self.name, self.description, self.calibrated = name, description, calibrated
        names = [metric for metric in names if calibrated or not make_metric(metric).needs_probabilities]
        self.order = names
        self.statistics = MetricStatistics(rows, [metric for metric in names if make_metric(metric).has_interval])
        self.plain = compute_metrics(rows, [metric for metric in names if not make_metric(metric).has_interval])

    def metric_set(self, level: float) -> MetricSet:
        metrics = self.statistics.estimates(level)
        metrics |= {name: Estimate(value=_defined(value)) for name, value in self.plain.items()}
        metrics = {name: metrics[name] for name in self.order}
        return MetricSet(name=self.name, description=self.description, metrics=metrics, calibrated=self.calibrated)

    @property
    def auc(self) -> tuple[float, Array]:
        """Over all rows, and over all rows but those of each user [U]."""
        at = self.statistics.names.index("auc")
        return float(self.statistics.values[at]), self.statistics.without[at]


class _Beside:
    """Another model's scores of the rows that both scored, over all of them and by slice.

    Args:
      predictions: of the model.
      other_predictions: of the other.
      other: what error messages call them.
      rows: of `predictions`.
      model: the model's scores.
      config: what to measure.
    """

    def __init__(
        self,
        predictions: pa.Table,
        other_predictions: pa.Table,
        other: str,
        rows: ScoredRows,
        model: _Scores,
        config: EvaluationConfig,
    ):
        self.config, self.rows, self.model = config, rows, model
        at = _match_other(predictions, other_predictions, other)
        self.shared = at >= 0
        self.all_shared = bool(self.shared.all())
        score = np.zeros(len(rows))
        score[self.shared] = to_numpy(one_chunk(other_predictions["score"]))[at[self.shared]]
        self.other = ScoredRows(rows.label, score, rows.user, rows.request)

    def result(self, slices: Sequence[Slice] = (), cut: Sequence[MetricStatistics] = ()) -> LiveComparison:
        """The comparison; `cut` are the model's statistics of the slices."""
        count = int(self.shared.sum())
        if not count:
            return LiveComparison(rows=0, metrics={})
        names = self.model.statistics.names
        whole = self._differences(np.flatnonzero(self.shared), self.model.statistics, names)
        parts = []
        for part, statistics in zip(slices, cut, strict=True):
            kept = part.rows[self.shared[part.rows]]
            if len(kept):
                found = self._differences(kept, statistics, self.config.slice_metrics)
                parts.append(SliceDifference(feature=part.feature, value=part.value, rows=len(kept), metrics=found))
        return LiveComparison(rows=count, metrics=whole, slices=tuple(parts))

    def _differences(
        self, kept: Array, statistics: MetricStatistics, names: Sequence[str]
    ) -> dict[str, MetricDifference]:
        """The model less the other over the rows `kept`; `statistics` are the model's where all rows are shared."""
        model = statistics if self.all_shared else MetricStatistics(self.rows.take(kept), names)
        other = MetricStatistics(self.other.take(kept), names)
        differences = model.differences(other, self.config.interval_level)
        return {
            name: MetricDifference(
                model=_defined(model.values[i]), live=_defined(other.values[i]), difference=differences[name]
            )
            for i, name in enumerate(names)
        }


def _match_other(predictions: pa.Table, other_predictions: pa.Table, other: str) -> Array:
    """For each row of the predictions, that of the other model; -1 where it has none."""
    keys = ["request_id", "item_id"]
    missing = [name for name in (*keys, "score") if name not in other_predictions.column_names]
    if missing:
        raise InputError(f"{other} have no column `{missing[0]}`.")
    if all(predictions[name].equals(other_predictions[name]) for name in keys):
        return np.arange(predictions.num_rows)
    return match_rows(predictions.select(keys), other_predictions.select(keys), other)


def _slice_result(part: Slice, rows: ScoredRows, statistics: MetricStatistics, config: EvaluationConfig) -> SliceResult:
    positives = int(rows.label[part.rows].sum())
    users = effective_users(rows.user[part.rows])
    return SliceResult(
        feature=part.feature,
        value=part.value,
        rows=len(part.rows),
        positives=positives,
        users=statistics.without.shape[1],
        metrics=statistics.estimates(config.interval_level),
        unjudged=why_unjudged(config.gates, part.feature, positives, len(part.rows) - positives, users),
    )


def _baseline_scores(baseline: Baseline, rows: ScoredRows, names: Sequence[str]) -> _Scores:
    if len(baseline.score) != len(rows):
        raise ValueError(
            f"baseline `{baseline.name}` must have a score for each row. Received: {len(baseline.score)} scores for "
            f"{len(rows)} rows."
        )
    scored = ScoredRows(rows.label, baseline.score, rows.user, rows.request)
    return _Scores(baseline.name, baseline.description, scored, names, baseline.calibrated)


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _lead_over_baselines(model: _Scores, others: Sequence[_Scores], level: float) -> tuple[str, Estimate] | None:
    """Name of the baseline that ranks best, and the model's AUC less its; the oracle is no baseline to beat."""
    known = [each for each in others if each.name != ORACLE and np.isfinite(each.auc[0])]
    if not known:
        return None
    best = max(known, key=lambda each: each.auc[0])
    (value, without), (other, other_without) = model.auc, best.auc
    return best.name, estimate(value - other, without - other_without, level)


def _lead_share(model: _Scores, others: Sequence[_Scores], level: float) -> Estimate | None:
    by_name = {each.name: each for each in others}
    if not {ITEM_CTR, ORACLE} <= set(by_name):
        return None
    (value, without), (item, item_without), (best, best_without) = (
        each.auc for each in (model, by_name[ITEM_CTR], by_name[ORACLE])
    )
    return estimate(float(lead_share(value, item, best)), lead_share(without, item_without, best_without), level)


def _count(rows: ScoredRows, predictions: pa.Table) -> Counts:
    users, requests = (_sizes_and_positives(key, rows.label) for key in (rows.user, rows.request))
    return Counts(
        rows=len(rows),
        requests=len(requests[0]),
        users=len(users[0]),
        items=pc.count_distinct(one_chunk(predictions["item_id"])).as_py(),
        positives=int(rows.label.sum()),
        users_without_both_labels=int(((users[1] == 0) | (users[1] == users[0])).sum()),
        requests_without_both_labels=int(((requests[1] == 0) | (requests[1] == requests[0])).sum()),
        requests_without_positive=int((requests[1] == 0).sum()),
    )


def _sizes_and_positives(codes: Array, label: Array) -> tuple[Array, Array]:
    return np.bincount(codes), np.bincount(codes, label)
