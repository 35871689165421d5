"""A progress bar of one epoch."""

from __future__ import annotations

import time


class TrainingProgress:
    """Draws the epoch, the running log loss and candidates a second.

    Example:
      with TrainingProgress(epoch=1, examples=1000) as progress:
          progress.update(done=512, log_loss=0.43)

    Args:
      epoch: its number.
      examples: candidates of the epoch.
      enabled: off draws nothing.
    """

    def __init__(self, epoch: int, examples: int, enabled: bool = True):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[rate]:,.0f} examples/s  log loss {task.fields[log_loss]:.4f}"),
            TimeRemainingColumn(),
            disable=not enabled,
        )
        self._task = self._bar.add_task("", total=examples, epoch=epoch, rate=0.0, log_loss=float("nan"))

    def __enter__(self) -> TrainingProgress:
        self._started = time.perf_counter()
        self._bar.start()
        return self

    def update(self, done: int, log_loss: float) -> None:
        rate = done / max(time.perf_counter() - self._started, 1e-9)
        self._bar.update(self._task, completed=done, rate=rate, log_loss=log_loss)

    def __exit__(self, *_) -> None:
        self._bar.stop()
