"""One node of a run, in a process of its own: what `clickmill run --only NODE` does for an orchestrator."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from importlib.metadata import version

from features import storage
from features.config import Strict, parse_model
from features.errors import NothingNewError
from pipeline.config import PipelineConfig, select_models
from pipeline.run.by_node.launch import REPORT, Launcher
from pipeline.run.by_node.run_lock import turn_of_node
from pipeline.run.dag import run_node
from pipeline.run.display import RunDisplay
from pipeline.run.lineage import ComponentRun, outputs_by_component
from pipeline.run.metadata_server import read_server
from pipeline.run.run import finish_run, make_log, silence_imports
from serving.release.manifest import fingerprint

LAST_RUN_FILE = "last_run.json"


class LastRun(Strict):
    """What the last run of a profile that came to its end was of.

    Attributes:
      examples: the artifact of LogIngest.
      config: fingerprint of the profile, with the span.
      version: of Clickmill.
    """

    examples: str
    config: str
    version: str


def run_step(
    config: PipelineConfig,
    node: str,
    run_id: str,
    *,
    models: list[str] | None = None,
    skip_unchanged: bool = False,
    display: RunDisplay | None = None,
) -> None:
    """Runs one node of a run; what it reads, the nodes before it have left in ML Metadata under the same id.

    Args:
      config: the pipeline.
      node: the id of the node, as `LogIngest` or `Trainer.autoint`; `Report` is the last step.
      run_id: of the run.
      models: only these of the profile's models, and what they rest on: the same for all nodes of a run.
      skip_unchanged: whether the ingestion of what the last run has ingested, by the same profile and the same version
        of Clickmill, is to end as nothing new.
      display: where progress is shown.

    Raises:
      InputError: if there is no such node.
      BusyError: if another run is under way, or had its turn since this one began.
      PipelineFailed: if the node failed.
      NothingNewError: if there is nothing to do.
    """
    silence_imports()
    display = display or RunDisplay()
    if models is not None:
        config = select_models(config, models)
    launcher = Launcher(config, run_id)
    launcher.check_node(node)
    first, last = launcher.is_first(node), node == REPORT
    # SQLite has one writer: there the nodes of a run come one after another.
    alone = read_server(config.metadata_path) is None
    with turn_of_node(config.home, run_id, node, starts=first, last=last, alone=alone):
        try:
            if first:
                make_log(config, display)
            components = run_node(config, launcher, node, display.progress)
            if last:
                finish_run(config, components, display, *_times(components))
                _note(config, components)
            elif skip_unchanged and node == "LogIngest":
                _require_change(config, components)
        finally:
            display.close()


def _times(components: list[ComponentRun]) -> tuple[datetime, float]:
    """When the run began, and for how long its components worked."""
    started = min(component.started for component in components)
    return datetime.fromtimestamp(started, timezone.utc), sum(component.seconds for component in components)


def _note(config: PipelineConfig, components: list[ComponentRun]) -> None:
    path = storage.join(config.run_dir, LAST_RUN_FILE)
    storage.write_text(path, _of(config, components).model_dump_json(indent=2) + "\n")


def _require_change(config: PipelineConfig, components: list[ComponentRun]) -> None:
    """Raises `NothingNewError` where the last run that came to its end was of the same."""
    path = storage.join(config.run_dir, LAST_RUN_FILE)
    if storage.is_file(path) and parse_model(json.loads(storage.read_text(path)), LastRun, path) == _of(
        config, components
    ):
        raise NothingNewError(f"{config.name}: the logs and the profile are those of the last run: nothing to do.")


def _of(config: PipelineConfig, components: list[ComponentRun]) -> LastRun:
    examples = outputs_by_component(components)["LogIngest"]["examples"]
    return LastRun(examples=examples, config=fingerprint(config.model_dump(mode="json")), version=version("clickmill"))
