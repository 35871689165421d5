"""What a run shows on the terminal."""

from __future__ import annotations

import os

from features import storage
from pipeline.run.by_node.launch import Progress


class RunDisplay:
    """A line for each finished component, and a spinner while one works.

    Lines go to standard output; the spinner to standard error, and only if that is a terminal. Components that draw a
    progress bar of their own (Trainers) get no spinner.
    """

    def __init__(self):
        from rich.console import Console

        self._out = Console(highlight=False)
        self._status = Console(stderr=True).status("")
        self._spinning = False

    def line(self, text: str) -> None:
        """Prints one line of rich markup."""
        self._stop()
        self._out.print(text, soft_wrap=True)

    def working(self, what: str) -> None:
        """Starts the spinner; the next line ends it."""
        self._status.update(f"{what} …")
        if not self._spinning:
            self._status.start()
            self._spinning = True

    def progress(self, progress: Progress) -> None:
        """Shows that a component started, finished, was cached or failed."""
        if progress.state == "running":
            if progress.component.startswith("Trainer"):
                self.line(f"[dim]… {progress.component}[/]")
            else:
                self.working(progress.component)
            return
        mark, end = {
            "done": ("[green]✓[/]", f"{progress.seconds:9.1f} s"),
            "cached": ("[dim]=[/]", f"{'cached':>11}"),
            "failed": ("[red]✗[/]", f"{'failed':>11}"),
        }[progress.state]
        self.line(f"{mark} {progress.component:30}{end}")

    def close(self) -> None:
        """Ends the spinner."""
        self._stop()

    def _stop(self) -> None:
        if self._spinning:
            self._status.stop()
            self._spinning = False


def shown_path(path: storage.AnyPath) -> str:
    """Returns the path relative to the working directory where it lies below it."""
    relative = os.path.relpath(path) if storage.is_local(path) else ".."
    return os.fspath(path) if relative.startswith("..") else relative
