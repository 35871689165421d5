"""Runs the pipeline on this machine, whole or node by node, and says which component failed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from features import storage
from features.errors import ClickmillError, NothingNewError, RunError
from pipeline.config import PipelineConfig
from pipeline.lineage import ComponentRun, component_runs
from pipeline.run.by_node.launch import REPORT, Launcher, Progress, Report, new_run_id
from pipeline.run.by_node.run_lock import state_lock
from pipeline.run.timings import MemorySampler, write_timings


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
    """Runs all nodes, one after another, in this process.

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
    launcher = Launcher(config, run_id or new_run_id())
    launcher.begin(launcher.nodes)
    return _launch_all(config, launcher, launcher.nodes, report)


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


def _launch_all(config: PipelineConfig, launcher: Launcher, nodes: Sequence[str], report: Report) -> list[ComponentRun]:
    storage.make_folder(config.run_dir)
    with MemorySampler() as sampler, _log_to(config.log_path):
        error = failed = None
        for node in nodes:
            try:
                launcher.launch(node, report)
            except Exception as raised:  # whatever a component raises: it is named below
                error, failed = raised, node
                logging.getLogger("absl").error("The run failed.", exc_info=True)
                break
    runs = component_runs(config.metadata_path, config.name, run=launcher.context)
    with state_lock(config.home):
        write_timings(config.timings_path, runs, sampler, nodes)
    if isinstance(error, ClickmillError) and error.exit_code == NothingNewError.exit_code:
        raise error
    if error is not None:
        report(Progress(failed, "failed"))
        raise PipelineFailed(failed, error, config.log_path) from error
    return runs


@contextlib.contextmanager
def _log_to(path: storage.AnyPath) -> Iterator[None]:
    """Sends TFX's log (from INFO) and everyone's warnings to a file, not to the terminal."""
    from absl import logging as absl_logging

    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root, tfx = logging.getLogger(), logging.getLogger("absl")
    handlers, before = list(root.handlers), (list(tfx.handlers), tfx.propagate, absl_logging.get_verbosity())
    root.handlers[:], tfx.handlers[:], tfx.propagate = [file], [file], False
    # Not the logger's level: whoever parses absl's flags during the run would set that back.
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        tfx.handlers[:], tfx.propagate = before[0], before[1]
        absl_logging.set_verbosity(before[2])
        file.close()
