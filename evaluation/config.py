"""What is measured of a model, and what it must reach to be blessed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from features.config import Strict

KEY_COLUMNS = ("request_id", "user_id", "item_id", "timestamp", "position", "label", "score", "history_end")
"""Columns of every predictions table; slice features stand beside them."""

MODEL_METRICS = (
    "auc",
    "gauc_user",
    "gauc_request",
    "log_loss",
    "normalized_entropy",
    "pcoc",
    "ece_equal_mass",
    "ece_equal_width",
    "ndcg@5",
    "ndcg@10",
    "mrr",
)

HISTORY_LENGTH = "history_length"
"""Name of the slices by `history_end`: how many behaviours the user had before the request."""

SIGNED_ITEM = "signed_item"
"""Name of the slices of candidates with and without an item signature, which rankers that look signatures up have."""

HEAD_SHARE = 0.1
"""Share of the items taken in train that are head."""


class SliceConfig(Strict):
    """Which slices are looked at.

    Attributes:
      features: columns of the predictions, or `history_length`; `signed_item` is left out where the ranker looks no
        item signatures up.
      min_rows: smaller slices are left out: their numbers would be noise.
      max_slices: of a feature, at most this many are listed, the largest first.
      num_buckets: quantile buckets of a float feature.
    """

    features: tuple[str, ...] = (HISTORY_LENGTH, SIGNED_ITEM)
    min_rows: int = Field(1000, ge=1)
    max_slices: int = Field(50, ge=1)
    num_buckets: int = Field(10, ge=2)


class ComparingGates(Strict):
    """Gates of which some compare with another model by the interval of the paired difference and a margin."""

    cannot_tell: Literal["push", "hold"] = Field(
        "push",
        description="What becomes of a model where the rows can tell neither that it is worse nor that it is no worse. "
        "`push`: it passes, so that an equal retrain is not refused for lack of rows; losses cannot add up, because "
        "the model must pass beside the anchor too. `hold`: it fails until the rows tell.",
    )


class GateConfig(ComparingGates):
    """Thresholds of the gates. None switches a gate off."""

    min_rows: int | None = Field(1000, ge=1, description="Fewer rows cannot tell a good model from a bad one.")
    min_positives: int | None = Field(
        100, ge=1, description="The interval of an AUC follows the rarer label: without clicks there is no verdict."
    )
    min_auc: float | None = Field(
        0.5, ge=0, le=1, description="A ranker must beat chance: judged by the lower end of the interval."
    )
    max_baseline_auc_loss: float | None = Field(
        0.0,
        ge=0,
        description="A model that ranks worse than popularity or the items' click rates do has not learnt what two "
        "counts an item say: it fails where a loss to the better of them is shown.",
    )
    pcoc: tuple[float, float] | None = Field(
        (0.9, 1.1),
        description="Probabilities are used as such (budgets, sorting across slots), so the mean must be right: fails "
        "where the whole interval lies outside.",
    )
    min_live_share: float | None = Field(
        0.9, ge=0, le=1, description="Both models must have scored the same rows for a fair comparison."
    )
    max_auc_loss: float | None = Field(
        0.0075,
        ge=0,
        description="The margin: the model may not rank worse than the live one, nor than the anchor, by more than "
        "this. The default is what an evaluation of 30,000 rows can tell from no loss.",
    )
    max_log_loss_increase: float | None = Field(
        0.0025,
        ge=0,
        description="The margin in nats: a model may order as well as another and yet give worse probabilities, with a "
        "mean that is right. The default goes with that of `max_auc_loss`.",
    )
    limits: dict[str, tuple[float | None, float | None]] = Field(
        {},
        description="Limits of metrics by name: the smallest and the largest value that pass, as `{mrr: [0.2, null]}`.",
    )
    slice_features: tuple[str, ...] | None = Field(
        None, description="Features whose slices are judged; by default all that are sliced by."
    )
    min_slice_users: float = Field(
        30,
        ge=2,
        description="A slice of fewer users, counted as users of equally many rows (Kish), is not judged: its interval "
        "rests on too few of them to cover as often as it says.",
    )
    min_slice_positives: int = Field(
        30,
        ge=1,
        description="A slice with fewer rows of either label is not judged: AUC and PCOC err by the rarer label.",
    )
    slice_pcoc: tuple[float, float] | None = Field(
        (0.8, 1.25),
        description="A mean that is right overall may hide groups that are over- and underpredicted: fails where the "
        "whole interval of a slice lies outside.",
    )
    min_slice_auc: float | None = Field(0.5, ge=0, le=1, description="In no group may the order be worse than chance.")
    max_slice_auc_loss: float | None = Field(
        0.01, ge=0, description="A gain overall may not be paid for by a group: judged against the live model."
    )

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        for name in ("pcoc", "slice_pcoc"):
            limits = getattr(self, name)
            if limits is not None and not 0 < limits[0] <= 1 <= limits[1]:
                raise ValueError(f"`{name}` must be a range around 1. Received: `{name}`={list(limits)}.")
        return self


class EvaluationConfig(Strict):
    """What is measured and what a model must reach.

    Attributes:
      metrics: names (`evaluation/metrics/registry.py`), over all rows; `auc` and `pcoc` are needed by the gates.
      slices: which slices.
      slice_metrics: names, per slice and per slice of the live comparison; only metrics with intervals.
      gates: thresholds.
      interval_level: coverage of all intervals.
      reliability_bins: bins of the reliability diagram.
    """

    metrics: tuple[str, ...] = MODEL_METRICS
    slices: SliceConfig = SliceConfig()
    slice_metrics: tuple[str, ...] = ("auc", "log_loss", "pcoc")
    gates: GateConfig = GateConfig()
    interval_level: float = Field(0.95, gt=0, lt=1)
    reliability_bins: int = Field(20, ge=2)

    @model_validator(mode="after")
    def _check(self) -> EvaluationConfig:
        # NumPy comes with the metrics: what is not asked for is not imported.
        if self.model_fields_set & {"metrics", "slice_metrics"}:
            self._check_names()
        for field in ("metrics", "slice_metrics"):
            missing = {"auc", "pcoc"} - set(getattr(self, field))
            if missing:
                raise ValueError(f"`{field}` must hold what the gates judge. Missing: {', '.join(sorted(missing))}.")
        unjudged = set(self.gates.limits) - set(self.metrics)
        if unjudged:
            raise ValueError(f"`gates.limits` must be among `metrics`. Received: {sorted(unjudged)}.")
        unknown = set(self.gates.slice_features or ()) - set(self.slices.features)
        if unknown:
            raise ValueError(f"`gates.slice_features` must be among `slices.features`. Received: {sorted(unknown)}.")
        return self

    def _check_names(self) -> None:
        from evaluation.metrics.registry import make_metric

        for name in self.metrics:
            make_metric(name)
        without = [name for name in self.slice_metrics if not make_metric(name).has_interval]
        if without:
            raise ValueError(f"`slice_metrics` must have intervals. Received: {', '.join(without)}.")


class RetrievalGates(ComparingGates):
    """Thresholds of the gates. None switches a gate off."""

    min_takes: int | None = Field(100, ge=1, description="Fewer takes cannot tell a good retrieval from a bad one.")
    min_lift: float | None = Field(
        1.0,
        ge=0,
        description="A personal retrieval that finds less than the most popular items do is not worth serving: fails "
        "where the interval of the paired difference shows it.",
    )
    min_lift_over_chance: float | None = Field(
        None, ge=0, description="A retrieval that finds less than a random one does has learnt nothing of users."
    )
    min_taught_lift: float | None = Field(
        None,
        ge=0,
        description="A retrieval that is taught is there to find its teacher's lists: fails where the interval of the "
        "paired difference shows that one which learns from takes, or popularity, finds more of them.",
    )
    max_recall_loss: float | None = Field(
        0.01,
        ge=0,
        description="The new model may not find less than the live one, or than the anchor, by more than this, over "
        "the items that both hold: fails where a loss is shown that is most likely larger.",
    )


class RetrievalEvaluationConfig(Strict):
    """What is measured and what a retrieval model must reach.

    Attributes:
      ks: cut-offs of recall and MAP; gates judge recall at the largest.
      head_share: share of the items taken in train that are head; fixed before anything is scored.
      gates: thresholds.
      teacher_list: items of the teacher's list that a retrieval which is taught should find.
      taught_requests: held-out requests, drawn at random, that its teacher makes lists for.
      interval_level: coverage of all intervals.
      seed: of the draw of these requests.
    """

    ks: tuple[int, ...] = Field((10, 50), min_length=1)
    head_share: float = Field(HEAD_SHARE, gt=0, lt=1)
    gates: RetrievalGates = RetrievalGates()
    teacher_list: int = Field(10, ge=1)
    taught_requests: int = Field(300, ge=1)
    interval_level: float = Field(0.95, gt=0, lt=1)
    seed: int = 0


class DistilledGates(RetrievalGates):
    """Gates of a retrieval that a fine ranker teaches: what it finds is what that ranker would click, if it were shown.

    Takes are what the logging policy showed and users clicked then, popular items above all; finding those is not its
    purpose: its teacher's lists are. Takes still tell a retrieval that works from one that does not.
    """

    min_lift: float | None = Field(None, ge=0, description=RetrievalGates.model_fields["min_lift"].description)
    min_lift_over_chance: float | None = Field(
        1.0, ge=0, description=RetrievalGates.model_fields["min_lift_over_chance"].description
    )
    min_taught_lift: float | None = Field(
        1.0, ge=0, description=RetrievalGates.model_fields["min_taught_lift"].description
    )


class DistilledEvaluationConfig(RetrievalEvaluationConfig):
    """`RetrievalEvaluationConfig` with the gates of a retrieval that is taught."""

    gates: DistilledGates = DistilledGates()
