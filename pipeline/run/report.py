"""The report of a run, gathered from the artifacts of its components."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from features import storage
from pipeline.config import PipelineConfig
from pipeline.run.lineage import ComponentRun, outputs_by_component
from pipeline.run.outcomes import ModelOutcome, cascade_evaluation


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
    from evaluation.report.data import RankerSummary, RetrieverSummary, RunInfo, TriedModel
    from evaluation.report.page import build_report
    from evaluation.report.training_record import load_training
    from evaluation.report.verdicts import model_verdict

    outputs = outputs_by_component(components)
    ranker = next(iter(config.models.rankers), None)
    pushed = None
    if ranker is not None:
        pushed = outcomes[ranker].pushed

    def summary(kind, name: str, **parts):
        return kind(
            name=config.models.title(name),
            pushed_version=_version(outcomes[name].pushed),
            training=load_training(outputs[f"Trainer.{name}"]["model_run"]),
            **parts,
        )

    verdicts = [
        model_verdict(
            config.models.title(name), config.models.stage(name), outcome.evaluation, _version(outcome.pushed)
        )
        for name, outcome in outcomes.items()
    ]
    cascade = cascade_evaluation(config, components)
    if cascade is not None:
        verdicts.append(model_verdict("Cascade", "cascade", cascade))
    data = collect(
        RunInfo(
            pipeline=config.name,
            spec=config.feature_spec.name,
            model=config.models.title(ranker or config.models.names[0]),
            started=started,
            seconds=seconds,
            simulated=config.simulate is not None,
        ),
        verdicts=verdicts,
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
            for name in config.models.rankers
        ],
        retrievers=[
            summary(RetrieverSummary, name, evaluation=outcomes[name].evaluation)
            for name in config.models.of_stage("retrieval")
        ],
        signatures=_signatures(components),
        behavior_tables=outputs.get(f"BehaviorTables.{ranker}", {}).get("tables"),
        cascade_evaluation=outputs.get("CascadeEvaluator", {}).get("evaluation"),
        replay=outputs.get("ReplayEvaluator", {}).get("evaluation"),
        stages=_stages(config, outputs, outcomes),
        served=[
            TriedModel(name=config.models.title(name), check=outcome.serving)
            for name, outcome in outcomes.items()
            if outcome.serving is not None
        ],
        timings=config.timings_path,
        ranked_example=ranked_example,
        pushed_version=_version(pushed),
    )
    return build_report(data, config.report_dir)


def _version(pushed: str | None) -> str | None:
    return storage.name(pushed) if pushed else None


def _stages(config: PipelineConfig, outputs: dict[str, dict[str, str]], outcomes: dict[str, ModelOutcome]):
    """The cascade's coarse ranker beside its fine one, on the impressions that both scored; None without one."""
    from evaluation.cascade.stage_comparison import compare_stages
    from evaluation.config import KEY_COLUMNS
    from features.arrow import read_parquet
    from pipeline.components.evaluators.ranking_evaluator import PREDICTIONS_FILE

    if config.cascade is None or (coarse := config.models.cascade_coarse) is None:
        return None
    names = (coarse, config.cascade_ranker)
    paths = [storage.join(outputs[f"RankingEvaluator.{name}"]["evaluation"], PREDICTIONS_FILE) for name in names]
    return compare_stages(
        *(read_parquet(path, list(KEY_COLUMNS)) for path in paths),
        tuple(config.models.title(name) for name in names),
        interval_level=outcomes[config.cascade_ranker].evaluation.interval_level,
    )


def _signatures(components: Sequence[ComponentRun]) -> dict | None:
    """What BehaviorSignatures noted in its artifact's properties, without what TFX notes there."""
    from evaluation.report.data import SignatureFigures

    for run in components:
        if run.component == "BehaviorSignatures":
            properties = run.properties["signatures"]
            return {name: properties[name] for name in SignatureFigures.model_fields}
    return None
