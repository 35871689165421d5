"""Runs the pipeline on this machine, shows its progress and says which component failed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from features import storage
from features.errors import RunError
from pipeline.config import PipelineConfig
from pipeline.lineage import ComponentRun, component_runs, last_execution_id
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


@dataclass(frozen=True)
class Progress:
    """What `run_dag` reports: `state` is `running`, `done`, `cached` or `failed`; seconds since it started."""

    component: str
    state: str
    seconds: float = 0.0


def run_dag(config: PipelineConfig, report: Callable[[Progress], None] = lambda progress: None) -> list[ComponentRun]:
    """Runs the whole DAG with TFX's LocalDagRunner.

    Args:
      config: the pipeline.
      report: called when a component starts and ends.

    Returns:
      The components of this run, with what they wrote. `timings.json` is written in `config.run_dir`.

    Raises:
      PipelineFailed: if a component failed.
    """
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(config)
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    storage.make_folder(config.run_dir)
    before = last_execution_id(config.metadata_path)
    watcher = _ComponentWatcher(report)
    with MemorySampler() as sampler, _log_to(config.log_path, watcher):
        error = None
        try:
            LocalDagRunner().run(pipeline)
        except Exception as raised:  # whatever a component raises: it is named below
            error = raised
            logging.getLogger("absl").error("The run failed.", exc_info=True)
    runs = component_runs(config.metadata_path, config.name, after=before)
    write_timings(config.timings_path, runs, sampler)
    if error is not None:
        failed = [run.component for run in runs if run.state == "FAILED"]
        component = failed[-1] if failed else (watcher.current or (runs[-1].component if runs else "pipeline"))
        report(Progress(component, "failed"))
        raise PipelineFailed(component, error, config.log_path) from error
    return runs


class _ComponentWatcher(logging.Handler):
    """Follows the run through the runner's own log messages; they only feed the display, results come from metadata."""

    def __init__(self, report: Callable[[Progress], None]):
        super().__init__(logging.INFO)
        self.current: str | None = None
        self._report = report
        self._started = 0.0
        self._cached = False

    def emit(self, record: logging.LogRecord) -> None:
        message = str(record.msg)
        if message == "Component %s is running.":
            self.current, self._started, self._cached = str(record.args[0]), time.time(), False
            self._report(Progress(self.current, "running"))
        elif message.startswith("A cached execution"):
            self._cached = True
        elif message == "Component %s is finished." and self.current:
            state = "cached" if self._cached else "done"
            self._report(Progress(self.current, state, time.time() - self._started))
            self.current = None


@contextlib.contextmanager
def _log_to(path: storage.AnyPath, watcher: logging.Handler) -> Iterator[None]:
    """Sends TFX's log (from INFO) and everyone's warnings to a file and to the watcher, not to the terminal."""
    from absl import logging as absl_logging

    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root, tfx = logging.getLogger(), logging.getLogger("absl")
    handlers, before = list(root.handlers), (list(tfx.handlers), tfx.propagate, absl_logging.get_verbosity())
    root.handlers[:], tfx.handlers[:], tfx.propagate = [file], [file, watcher], False
    # Not the logger's level: whoever parses absl's flags during the run would set that back.
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        tfx.handlers[:], tfx.propagate = before[0], before[1]
        absl_logging.set_verbosity(before[2])
        file.close()
