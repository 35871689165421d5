"""The model of the last run that failed gates, read back from ML Metadata."""

from __future__ import annotations

from dataclasses import dataclass

from features import storage
from features.config import nearest
from features.errors import InputError, NotFoundError
from pipeline.config import PipelineConfig
from pipeline.run.lineage import component_runs, outputs_by_component


@dataclass(frozen=True)
class RefusedModel:
    """A model that was not blessed.

    Attributes:
      saved_model: where its export lies.
      failed_gates: {name of a gate: what it found}.
    """

    saved_model: str
    failed_gates: dict[str, str]


def refused_model(config: PipelineConfig, name: str) -> RefusedModel:
    """Returns the model that the last run of a profile trained under a name, and refused.

    Raises:
      InputError: if the profile has no such model, or its gates allowed it.
      NotFoundError: if no run evaluated it.
    """
    if name not in config.models:
        raise InputError(f"the profile has no model `{name}`.{nearest(name, config.models.names)}")
    runs = component_runs(config.metadata_path, config.name)
    done = [run for run in runs if run.state in ("COMPLETE", "CACHED")]
    outputs = outputs_by_component(done)  # Of each component the last one.
    of_stage = "RetrievalEvaluator" if config.models.stage(name) == "retrieval" else "RankingEvaluator"
    trained, judged = outputs.get(f"Trainer.{name}"), outputs.get(f"{of_stage}.{name}")
    if trained is None or judged is None:
        raise NotFoundError(f"{config.metadata_path}: no run evaluated `{name}`: `clickmill run` does.")
    result = _load(of_stage, judged["evaluation"])
    if result.blessed:
        raise InputError(f"`{name}` passed its gates in the last run: there is nothing to override.")
    saved_model = storage.join(trained["model"], "Format-Serving")
    return RefusedModel(saved_model, {gate.name: gate.reason for gate in result.failed_gates})


def _load(evaluator: str, directory: str):
    from evaluation.results import EvaluationResult
    from evaluation.retrieval import RetrievalEvaluation

    return (RetrievalEvaluation if evaluator == "RetrievalEvaluator" else EvaluationResult).load(directory)
