"""The report of a run, gathered from the artifacts of its components."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from features import storage
from pipeline.config import PipelineConfig
from pipeline.lineage import ComponentRun, outputs_by_component
from pipeline.run.outcomes import ModelOutcome


def write_report(
    config: PipelineConfig,
    components: Sequence[ComponentRun],
    outcomes: dict[str, ModelOutcome],
    started: datetime,
    seconds: float,
    ranked_example: str | None,
):
    """Writes the page and its figures into `config.report_dir`; returns their paths.

    The page is of the first ranker; where none was trained, of the two-tower alone.

    Args:
      config: the pipeline.
      components: what ran.
      outcomes: of its models.
      started: when the run began.
      seconds: how long it took.
      ranked_example: one ranked request, if there is one.
    """
    from evaluation.report.collect import collect
    from evaluation.report.data import RankerSummary, RetrieverSummary, RunInfo
    from evaluation.report.page import build_report
    from evaluation.report.training_record import load_training

    outputs = outputs_by_component(components)
    ranker = next(iter(config.models.rankers), None)
    pushed = None
    if ranker is not None:
        pushed = outcomes[ranker].pushed
    retrievals = [name for name in outcomes if config.models.stage(name) == "retrieval"]
    judged = [ranker, *(name for name in outcomes if name not in (ranker, *retrievals))] if ranker else []

    def summary(kind, name: str, **parts):
        version = outcomes[name].pushed
        return kind(
            name=config.models.title(name),
            pushed_version=storage.name(version) if version else None,
            training=load_training(outputs[f"Trainer.{name}"]["model_run"]),
            **parts,
        )

    data = collect(
        RunInfo(
            pipeline=config.name,
            spec=config.feature_spec.name,
            model=config.models.title(ranker or retrievals[0]),
            started=started,
            seconds=seconds,
            simulated=config.simulate is not None,
        ),
        counts=outputs["LogIngest"]["examples"],
        dead_letters=outputs["LogIngest"]["dead_letters"],
        training_history=outputs[f"Trainer.{ranker}"]["model_run"] if ranker else None,
        evaluation=outputs[f"RankingEvaluator.{ranker}"]["evaluation"] if ranker else None,
        rankers=[
            summary(
                RankerSummary,
                name,
                metrics=outcomes[name].evaluation.model.metrics,
                blessed=outcomes[name].blessed,
                failed_gates=outcomes[name].failed_gates,
            )
            for name in judged
        ],
        retrievers=[summary(RetrieverSummary, name, evaluation=outcomes[name].evaluation) for name in retrievals],
        signatures=_signatures(components),
        behavior_tables=outputs.get(f"BehaviorTables.{ranker}", {}).get("tables"),
        cascade_evaluation=outputs.get("CascadeEvaluator", {}).get("evaluation"),
        timings=config.timings_path,
        ranked_example=ranked_example,
        pushed_version=storage.name(pushed) if pushed else None,
    )
    return build_report(data, config.report_dir)


def _signatures(components: Sequence[ComponentRun]) -> dict | None:
    """What BehaviorSignatures noted in its artifact's properties, without what TFX notes there."""
    from evaluation.report.data import SignatureFigures

    for run in components:
        if run.component == "BehaviorSignatures":
            properties = run.properties["signatures"]
            return {name: properties[name] for name in SignatureFigures.model_fields}
    return None
