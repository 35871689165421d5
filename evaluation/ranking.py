"""Judges a ranker: metrics with intervals, slices, baselines, the live model beside it, gates and the verdict.

```python
result = evaluate(predictions, EvaluationConfig(), baselines=[counts.click_rate(predictions["item_id"])])
result.save(directory)
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.baselines import Baseline, lead_share, match_rows
from evaluation.bootstrap import MetricStatistics, bootstrap, estimate, ones
from evaluation.config import KEY_COLUMNS, EvaluationConfig
from evaluation.gates import judge
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

_Found = Mapping[str, Array]
"""Values [M] of each statistic's metrics, or their replicates [R, M], by the statistic's name."""


def evaluate(
    predictions: pa.Table,
    config: EvaluationConfig | None = None,
    live_predictions: pa.Table | None = None,
    baselines: Sequence[Baseline] = (),
) -> EvaluationResult:
    """Evaluates scored rows and decides on the blessing.

    Args:
      predictions: one row an impression: `KEY_COLUMNS` and the slice features. `label` is 0 or 1, `score` a
        probability.
      config: what to measure and to demand.
      live_predictions: the live model's scores of the same rows, matched by `request_id` and `item_id`. None: there is
        no live model; only the absolute gates judge.
      baselines: scores aligned with the rows of `predictions` (`evaluation/baselines.py`). With `item_ctr` and
        `oracle` among them the result holds the share of the oracle's lead.

    Raises:
      InputError: for missing columns, nulls, no rows, labels other than 0 and 1, scores outside [0, 1].
    """
    config = config or EvaluationConfig()
    rows, num_users = scored_rows(predictions)
    slices, omitted = find_slices(predictions, config.slices)
    names = tuple(dict.fromkeys(config.metrics))
    model = _Scores("model", "the evaluated model", rows, names, True)
    others = [_baseline_scores(baseline, rows, names) for baseline in baselines]
    cut = [MetricStatistics(rows.take(part.rows), config.slice_metrics) for part in slices]
    statistics = {scores.name: scores.statistics for scores in (model, *others)}
    statistics |= {f"slice {i}": statistic for i, statistic in enumerate(cut)}
    comparison = None
    if live_predictions is not None:
        comparison = _LiveScores(predictions, live_predictions, rows, slices, config)
        statistics |= comparison.statistics
    sampled = bootstrap(statistics, num_users, config.bootstrap_replicates, config.seed, scheme=config.bootstrap_scheme)
    whole = {name: statistic(ones(num_users)) for name, statistic in statistics.items()}
    level = config.interval_level

    slice_results = tuple(
        SliceResult(
            feature=part.feature,
            value=part.value,
            rows=len(part.rows),
            positives=int(rows.label[part.rows].sum()),
            users=len(np.unique(rows.user[part.rows])),
            metrics=_estimates(config.slice_metrics, whole[f"slice {i}"], sampled[f"slice {i}"], level),
        )
        for i, part in enumerate(slices)
    )
    counts = _count(rows, predictions)
    model_set = model.metric_set(whole, sampled, level)
    live = comparison.result(whole, sampled, level) if comparison else None
    gates = judge(config.gates, counts, model_set, slice_results, live)
    return EvaluationResult(
        counts=counts,
        model=model_set,
        baselines=tuple(scores.metric_set(whole, sampled, level) for scores in others),
        lead_share=_lead_share([model, *others], whole, sampled, level),
        slices=slice_results,
        omitted_slices=tuple(omitted),
        reliability=reliability_bins(rows.label, rows.score, config.reliability_bins),
        live=live,
        gates=gates,
        blessed=all(gate.passed for gate in gates),
        interval_level=level,
        bootstrap_replicates=config.bootstrap_replicates,
        seed=config.seed,
    )


def scored_rows(predictions: pa.Table) -> tuple[ScoredRows, int]:
    """Checks a predictions table and turns it into arrays; users and requests become codes. Also the user count."""
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
    return rows, len(user.dictionary)


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

    def metric_set(self, whole: _Found, sampled: _Found, level: float) -> MetricSet:
        metrics = _estimates(self.statistics.names, whole[self.name], sampled[self.name], level)
        metrics |= {name: estimate(value, np.empty(0), level) for name, value in self.plain.items()}
        metrics = {name: metrics[name] for name in self.order}
        name = self.name.removeprefix("baseline ")
        return MetricSet(name=name, description=self.description, metrics=metrics, calibrated=self.calibrated)

    def auc(self, values: Array) -> Array:
        return values[..., self.statistics.names.index("auc")]


class _LiveScores:
    """The live model's scores of the rows that both scored, over all of them and by slice."""

    def __init__(
        self,
        predictions: pa.Table,
        live_predictions: pa.Table,
        rows: ScoredRows,
        slices: list[Slice],
        config: EvaluationConfig,
    ):
        at = _match_live(predictions, live_predictions)
        shared = at >= 0
        self.rows = int(shared.sum())
        self.names = tuple(name for name in dict.fromkeys(config.metrics) if make_metric(name).has_interval)
        self.slice_names = config.slice_metrics
        self.slices: list[tuple[int, Slice, int]] = []
        self.statistics: dict[str, MetricStatistics] = {}
        self._all_shared = bool(shared.all())
        if not self.rows:
            return
        live_score = np.zeros(len(rows))
        live_score[shared] = to_numpy(one_chunk(live_predictions["score"]))[at[shared]]
        live = ScoredRows(rows.label, live_score, rows.user, rows.request)
        self._add("live", np.flatnonzero(shared), rows, live, self.names)
        for i, part in enumerate(slices):
            kept = part.rows[shared[part.rows]]
            if len(kept):
                self.slices.append((i, part, len(kept)))
                self._add(f"live slice {i}", kept, rows, live, self.slice_names)

    def _add(self, key: str, kept: Array, rows: ScoredRows, live: ScoredRows, names: Sequence[str]) -> None:
        self.statistics[key] = MetricStatistics(live.take(kept), names)
        if not self._all_shared:
            self.statistics[self._model_key(key)] = MetricStatistics(rows.take(kept), names)

    def _model_key(self, key: str) -> str:
        """Where the model's statistics over the same rows are: those over all rows, where all are shared."""
        return ("model" if key == "live" else key.removeprefix("live ")) if self._all_shared else f"{key}: model"

    def result(self, whole: _Found, sampled: _Found, level: float) -> LiveComparison:
        if not self.rows:
            return LiveComparison(rows=0, metrics={})

        def differences(key: str, names: Sequence[str]) -> dict[str, MetricDifference]:
            model, live = whole[self._model_key(key)], whole[key]
            found = _estimates(names, model - live, sampled[self._model_key(key)] - sampled[key], level)
            return {
                name: MetricDifference(
                    model=_defined(model[i]),
                    live=_defined(live[i]),
                    difference=found[name],
                )
                for i, name in enumerate(names)
            }

        return LiveComparison(
            rows=self.rows,
            metrics=differences("live", self.names),
            slices=tuple(
                SliceDifference(
                    feature=part.feature,
                    value=part.value,
                    rows=count,
                    metrics=differences(f"live slice {i}", self.slice_names),
                )
                for i, part, count in self.slices
            ),
        )


def _match_live(predictions: pa.Table, live_predictions: pa.Table) -> Array:
    keys = ["request_id", "item_id"]
    missing = [name for name in (*keys, "score") if name not in live_predictions.column_names]
    if missing:
        raise InputError(f"the live predictions have no column `{missing[0]}`.")
    if all(predictions[name].equals(live_predictions[name]) for name in keys):
        return np.arange(predictions.num_rows)
    return match_rows(predictions.select(keys), live_predictions.select(keys), "the live predictions")


def _baseline_scores(baseline: Baseline, rows: ScoredRows, names: Sequence[str]) -> _Scores:
    if len(baseline.score) != len(rows):
        raise ValueError(
            f"baseline `{baseline.name}` must have a score for each row. Received: {len(baseline.score)} scores for "
            f"{len(rows)} rows."
        )
    scored = ScoredRows(rows.label, baseline.score, rows.user, rows.request)
    return _Scores(f"baseline {baseline.name}", baseline.description, scored, names, baseline.calibrated)


def _estimates(names: Sequence[str], values: Array, replicates: Array, level: float) -> dict[str, Estimate]:
    return {name: estimate(values[i], replicates[:, i], level) for i, name in enumerate(names)}


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _lead_share(scores: list[_Scores], whole: _Found, sampled: _Found, level: float) -> Estimate | None:
    by_name = {each.name: each for each in scores}
    if not {"baseline item_ctr", "baseline oracle"} <= set(by_name):
        return None
    needed = [by_name[name] for name in ("model", "baseline item_ctr", "baseline oracle")]
    value, replicates = (lead_share(*(each.auc(found[each.name]) for each in needed)) for found in (whole, sampled))
    return estimate(float(value), replicates, level)


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
