"""Launches nodes of the pipeline on this machine, under the id of a run: all of them, or one alone.

TFX's launcher drives, executes and publishes one node, and finds what the node reads by the contexts that its producers
were published under: of the pipeline, of the run, of the node. TFX's own LocalDagRunner names every run anew; under a
name that is kept, a node in a process of its own, on a machine of its own, finds the same inputs, and a node that is
done in a run is not done again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features import storage
from features.config import nearest
from features.errors import InputError, RunError
from pipeline.config import PipelineConfig
from pipeline.run.lanes.metadata import metadata_of
from pipeline.run.lineage import ComponentRun, component_runs, last_round, metadata_connection, run_context

#: The last step of a run, which is no component: it writes the report and the manifest of what all the others left.
REPORT = "Report"
#: States of nodes that others may read.
DONE = ("COMPLETE", "CACHED")

_RUN_ID = r"[A-Za-z0-9_][A-Za-z0-9_.:+~@-]{0,199}"


@dataclass(frozen=True)
class Progress:
    """What is reported of a node.

    Attributes:
      component: its id.
      state: `running`, `done`, `cached`, `failed`, or `says` with what it printed.
      seconds: since it started.
      apart: whether it runs in a process of its own, where it cannot draw on the terminal.
      text: a line of what it printed.
    """

    component: str
    state: str
    seconds: float = 0.0
    apart: bool = False
    text: str = ""


Report = Callable[[Progress], None]


def check_run_id(run_id: str) -> str:
    """Returns the id of a run. Raises `InputError` for what cannot be one."""
    if not re.fullmatch(_RUN_ID, run_id):
        raise InputError(f"a run's id is of letters, digits and `_.:+~@-`, 200 at most. Received: {run_id!r}")
    return run_id


def new_run_id() -> str:
    """Returns an id for a run that nobody named: the time."""
    return datetime.now().isoformat()


class Launcher:
    """The nodes of a pipeline under the id of one run; several threads may launch one each."""

    def __init__(self, config: PipelineConfig, run_id: str):
        """Compiles the pipeline; reads and writes nothing.

        Args:
          config: the pipeline.
          run_id: of the run.
        """
        self._config = config
        self.run_id = check_run_id(run_id)
        self._round: int | None = None
        self._metadata_lock = threading.RLock()
        self._compiled = _compile(config)
        nodes = [node.pipeline_node for node in self._compiled.nodes]
        self.upstream = {node.node_info.id: tuple(node.upstream_nodes) for node in nodes}

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ids of all nodes, every one after those that it waits for."""
        return tuple(self.upstream)

    @property
    def context(self) -> str:
        """The name of the run's context in ML Metadata."""
        with self._metadata_lock:
            round_ = self._round or last_round(self._config.metadata_path, self._config.name, self.run_id)
        return run_context(self._config.name, self.run_id, round_)

    def check_node(self, node: str) -> None:
        """Raises `InputError` if there is no such node, with the nearest."""
        known = (*self.nodes, REPORT)
        if node not in known:
            raise InputError(f"the pipeline has no node `{node}`.{nearest(node, known)} Its nodes: {', '.join(known)}.")

    def is_first(self, node: str) -> bool:
        """Whether a node waits for no other."""
        return node != REPORT and not self.upstream[node]

    def states(self) -> dict[str, str]:
        """Returns what became of each node that this run has come to, as ML Metadata names it."""
        return {run.component: run.state for run in self._runs()}

    def begin(self, nodes: tuple[str, ...]) -> None:
        """Begins the run anew where all of these nodes are done in it: what has not changed comes from the cache.

        Otherwise the run goes on, as after a failure.
        """
        states = self.states()
        if all(states.get(node) in DONE for node in nodes):
            self._round = last_round(self._config.metadata_path, self._config.name, self.run_id) + 1

    def require(self, node: str) -> None:
        """Raises `RunError` unless all that a node waits for is done in this run."""
        states = self.states()
        waits_for = self.nodes if node == REPORT else self.upstream[node]
        missing = [each for each in waits_for if states.get(each) not in DONE]
        if missing:
            raise RunError(
                f"`{node}` waits for {', '.join(missing)}, which the run {self.run_id} has not done: run it first."
            )

    def launch(self, node: str, report: Report, operators: dict[type, Any] | None = None) -> None:
        """Runs one node, unless it is done in this run.

        Args:
          node: its id.
          report: called when it starts and ends.
          operators: TFX's executor operators, by specification; by default it is executed in this process.

        Raises:
          RunError: if what it waits for is not done.
          Exception: whatever its driver or executor raised; ML Metadata calls it failed by then.
        """
        if self.states().get(node) in DONE:
            report(Progress(node, "cached"))
            return
        self.require(node)
        self._clear(node)
        report(Progress(node, "running"))
        started = time.time()
        self._launch(node, operators)
        state = self.states().get(node, "SKIPPED")
        if state not in DONE:
            raise RunError(f"`{node}` ended as {state} in ML Metadata, and its log does not say why.")
        report(Progress(node, "cached" if state == "CACHED" else "done", time.time() - started))

    def _runs(self) -> list[ComponentRun]:
        with self._metadata_lock:
            return component_runs(self._config.metadata_path, self._config.name, run=self.context)

    def _clear(self, node: str) -> None:
        """Deletes what a try of the node left that was killed: the next one writes to the same folders."""
        folder = storage.join(self._config.pipeline_root, node)
        for run in self._runs():
            if run.component == node:
                for each in (*storage.entries(folder), storage.join(folder, ".system", "executor_execution")):
                    storage.delete(storage.join(each, str(run.execution)))

    def _launch(self, node_id: str, operators: dict[type, Any] | None) -> None:
        """Runs one node by TFX's launcher, as its LocalDagRunner does."""
        from tfx.orchestration.local import runner_utils
        from tfx.orchestration.portable.launcher import Launcher as NodeLauncher

        pipeline = self._pipeline()
        (node,) = (each.pipeline_node for each in pipeline.nodes if each.pipeline_node.node_info.id == node_id)
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        NodeLauncher(
            pipeline_node=node,
            mlmd_connection=metadata_of(metadata_connection(self._config.metadata_path), self._metadata_lock),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
            custom_executor_operators=operators,
        ).launch()

    def _pipeline(self):
        """The compiled pipeline, in which the run's contexts have their names."""
        from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
        from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter

        named = type(self._compiled)()
        named.CopyFrom(self._compiled)
        substitute_runtime_parameter(named, {PIPELINE_RUN_ID_PARAMETER_NAME: self.context})
        return named


def _compile(config: PipelineConfig):
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(config)  # first: `pipeline.components` chooses the Keras
    from tfx.dsl.compiler.compiler import Compiler

    return Compiler().compile(pipeline)
