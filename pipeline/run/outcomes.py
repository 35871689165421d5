"""What became of each model of a run, read from what its components wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from features import storage
from features.errors import NotFoundError
from pipeline.config import PipelineConfig
from pipeline.run.lineage import ComponentRun, outputs_by_component


@dataclass(frozen=True)
class ModelOutcome:
    """One model of a run.

    Attributes:
      evaluation: of a ranker an `EvaluationResult`, of a two-tower a `RetrievalEvaluation`.
      pushed: the version directory that holds the model; None if it was not blessed.
      tables: what BehaviorTables built for it (`behavior_tables.json`); None if nothing.
      tables_dir: the store that holds them.
      serving: what its trial on a server found, a `ServingCheck`; None where none was asked for, or it was not tried
        since its evaluation refused it.
    """

    evaluation: object
    pushed: str | None
    tables: dict | None = None
    tables_dir: str | None = None
    serving: object = None

    @property
    def blessed(self) -> bool:
        """Whether the model passed every gate."""
        return self.evaluation.blessed

    @property
    def failed_gates(self) -> tuple[str, ...]:
        """The names of those that it did not pass."""
        return tuple(gate.name for gate in self.evaluation.failed_gates)


def model_outcomes(config: PipelineConfig, components: Sequence[ComponentRun]) -> dict[str, ModelOutcome]:
    """Returns the outcome of every model that is switched on.

    Raises:
      NotFoundError: if a model that an earlier run pushed, or its tables, were deleted since.
    """
    from evaluation.results import EvaluationResult
    from evaluation.retrieval import RetrievalEvaluation
    from evaluation.serving_check import ServingCheck

    outputs = outputs_by_component(components)
    found = {}
    for name in config.models.names:
        if config.models.stage(name) == "retrieval":
            evaluation = RetrievalEvaluation.load(outputs[f"RetrievalEvaluator.{name}"]["evaluation"])
        else:
            evaluation = EvaluationResult.load(outputs[f"RankingEvaluator.{name}"]["evaluation"])
        tables = _tables(config, outputs.get(f"BehaviorTables.{name}"), name)
        store = os.fspath(config.tables_dir(name)) if tables else None
        trial = outputs.get(f"ServingValidator.{name}")
        serving = ServingCheck.load(trial["evidence"]) if trial and evaluation.blessed else None
        found[name] = ModelOutcome(evaluation, _pushed(config, components, name), tables, store, serving)
    return found


def cascade_evaluation(config: PipelineConfig, components: Sequence[ComponentRun]):
    """The `CascadeEvaluation` of the run; None where no cascade was judged."""
    from evaluation.cascade.evaluate import CascadeEvaluation

    if config.cascade is None:
        return None
    return CascadeEvaluation.load(outputs_by_component(components)["CascadeEvaluator"]["evaluation"])


def _pushed(config: PipelineConfig, components: Sequence[ComponentRun], name: str) -> str | None:
    """The directory that a model was pushed to, by this run or by the earlier one whose push is cached."""
    (pusher,) = (run for run in components if run.component == f"Pusher.{name}")
    properties = pusher.properties["pushed_model"]
    if properties.get("pushed") != 1:
        return None
    pushed = str(properties["pushed_destination"])
    if not storage.is_folder(pushed):
        raise NotFoundError(
            f"{pushed}: the model was pushed here by an earlier run and was deleted since. Its archive is "
            f"{pusher.outputs['pushed_model']}: copy it back, or delete {config.run_dir} and run again."
        )
    return pushed


def _tables(config: PipelineConfig, outputs: dict[str, str] | None, name: str) -> dict | None:
    if outputs is None:
        return None
    built = json.loads(storage.read_text(storage.join(outputs["tables"], "behavior_tables.json")))
    store = config.tables_dir(name)
    if built is not None and not storage.exists(storage.join(store, built["version"])):
        raise NotFoundError(
            f"{store}: bucket tables were built here by an earlier run and were deleted since. Build "
            f"them by `clickmill bse build --store {store}`, or delete {config.run_dir} and run again."
        )
    return built
