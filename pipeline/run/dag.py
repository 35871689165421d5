"""Runs the pipeline on this machine, whole or node by node, and says which component failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from features import storage
from features.errors import ClickmillError, NothingNewError, RunError
from pipeline.config import PipelineConfig
from pipeline.run.by_node.launch import REPORT, Launcher, Progress, Report, new_run_id
from pipeline.run.by_node.run_lock import state_lock
from pipeline.run.lanes.executors import import_tfx, launch_in_lanes
from pipeline.run.lanes.logs import log_to
from pipeline.run.lanes.pool import LanePool
from pipeline.run.lanes.schedule import NodeFailed
from pipeline.run.lineage import ComponentRun, component_runs
from pipeline.run.timings import MemorySampler, read_timings, write_timings


class PipelineFailed(RunError):
    """A component failed. The message names it, what went wrong and where the log is.

    Attributes:
      component: the id of the component that failed.
    """

    def __init__(self, component: str, error: BaseException, log: storage.AnyPath):
        super().__init__(
            f"Component `{component}` failed: {type(error).__name__}: {error}\n"
            f"Log: {log}. What finished before is cached: mend the cause and run again."
        )
        self.component = component


def run_dag(
    config: PipelineConfig, report: Report = lambda progress: None, run_id: str | None = None
) -> list[ComponentRun]:
    """Runs all nodes, `config.num_lanes` at a time.

    A single lane is this process; two and more are processes of their own.

    Args:
      config: the pipeline.
      report: called when a component starts and ends.
      run_id: of the run; a run of that id that did not come to its end goes on. By default a run of its own.

    Returns:
      The components of this run, with what they wrote. `timings.json` is written in `config.run_dir`.

    Raises:
      PipelineFailed: if a component failed.
      NothingNewError: if a component found nothing to do.
    """
    run_id = run_id or new_run_id()
    if config.num_lanes == 1:
        launcher = Launcher(config, run_id)
        launcher.begin(launcher.nodes)
        return _launch_all(config, launcher, launcher.nodes, report)
    from pipeline.pipeline import create_pipeline

    # The pool first: its lanes import TFX while the launcher does.
    with LanePool(config.num_lanes, partial(import_tfx, create_pipeline, config)) as pool:
        launcher = Launcher(config, run_id)
        launcher.begin(launcher.nodes)
        return _launch_all(config, launcher, launcher.nodes, report, pool)


def run_node(
    config: PipelineConfig, launcher: Launcher, node: str, report: Report = lambda progress: None
) -> list[ComponentRun]:
    """Runs one node of a run, in this process; the others run in theirs.

    Args:
      config: the pipeline.
      launcher: of the run.
      node: its id; what it waits for is done. A first node that is done already begins the run anew. `REPORT` is no
        component: all are to be done.
      report: called when the component starts and ends.

    Returns:
      All components of the run so far.

    Raises:
      PipelineFailed: if it failed, or what it waits for is not done.
      NothingNewError: if the node found nothing to do.
    """
    if launcher.is_first(node):
        launcher.begin((node,))
    if node == REPORT:
        launcher.require(node)
        return component_runs(config.metadata_path, config.name, run=launcher.context)
    return _launch_all(config, launcher, (node,), report)


def _launch_all(
    config: PipelineConfig, launcher: Launcher, nodes: Sequence[str], report: Report, pool: LanePool | None = None
) -> list[ComponentRun]:
    """Runs nodes, and writes what they took; in the lanes of a pool, if one is given."""
    storage.make_folder(config.run_dir)
    peaks: dict[str, float | None] = {}
    failure = None
    with log_to(config.log_path):
        try:
            if pool is None:
                _one_by_one(launcher, nodes, report, peaks)
            else:
                earlier = {entry["component"]: entry["seconds"] for entry in read_timings(config.timings_path)}
                launch_in_lanes(launcher, pool, earlier, report, peaks)
        except NodeFailed as raised:
            failure = raised
            logging.getLogger("absl").error("The run failed.", exc_info=raised.error)
    runs = component_runs(config.metadata_path, config.name, run=launcher.context)
    place = {node: number for number, node in enumerate(launcher.nodes)}  # Not as they happened to start in lanes.
    runs.sort(key=lambda run: place.get(run.component, len(place)))
    with state_lock(config.home):
        write_timings(config.timings_path, runs, peaks)
    if failure is None:
        return runs
    error = failure.error
    if isinstance(error, ClickmillError) and error.exit_code == NothingNewError.exit_code:
        raise error
    report(Progress(failure.node, "failed"))
    raise PipelineFailed(failure.node, error, config.log_path) from error


def _one_by_one(launcher: Launcher, nodes: Sequence[str], report: Report, peaks: dict[str, float | None]) -> None:
    """Runs nodes in this process; `peaks` gets their memory. Raises `NodeFailed`."""
    with MemorySampler() as sampler:
        for node in nodes:
            started = time.time()
            try:
                launcher.launch(node, report)
            except Exception as error:  # Whatever a component raises: the run names it.
                raise NodeFailed(node, error) from error
            finally:
                peaks[node] = sampler.peak_mb(started, time.time())
