"""What a run shows on the terminal."""

from __future__ import annotations

import os

from features import storage
from pipeline.run.by_node.launch import Progress


class RunDisplay:
    """A line for each finished component, and a spinner while some work.

    Lines go to standard output; the spinner to standard error, and only if that is a terminal. Components that draw a
    progress bar of their own (Trainers) get no spinner. What components print that run side by side comes line by line,
    under their names.
    """

    def __init__(self):
        from rich.console import Console

        self._out = Console(highlight=False)
        self._status = Console(stderr=True).status("")
        self._spinning = False
        self._apart: list[str] = []

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
        if progress.apart:
            self._progress_apart(progress)
            return
        if progress.state == "running":
            if progress.component.startswith("Trainer"):
                self.line(f"[dim]… {progress.component}[/]")
            else:
                self.working(progress.component)
            return
        self._ended(progress)

    def _ended(self, progress: Progress) -> None:
        mark, end = {
            "done": ("[green]✓[/]", f"{progress.seconds:9.1f} s"),
            "cached": ("[dim]=[/]", f"{'cached':>11}"),
            "failed": ("[red]✗[/]", f"{'failed':>11}"),
        }[progress.state]
        self.line(f"{mark} {progress.component:30}{end}")

    def _progress_apart(self, progress: Progress) -> None:
        """Shows the same of components that run side by side: the spinner names them all."""
        from rich.markup import escape

        if progress.state == "running":
            self._apart.append(progress.component)
        elif progress.state == "says":
            self.line(f"[dim]… {progress.component:30}{escape(progress.text)}[/]")
        else:
            self._apart = [component for component in self._apart if component != progress.component]
            self._ended(progress)
        if self._apart:
            self.working(", ".join(self._apart))

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
