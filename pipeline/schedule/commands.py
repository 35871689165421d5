"""The commands of a scheduled run: one for each node, or one for the whole."""

from __future__ import annotations

import os
import shutil
import sys

from features import storage
from features.errors import InputError
from pipeline.config import PipelineConfig
from pipeline.run.by_node.launch import REPORT, Launcher

#: What a scheduler fills in.
RUN_ID, SPAN = "{run_id}", "{span}"


def run_graph(config: PipelineConfig) -> dict[str, tuple[str, ...]]:
    """Returns the nodes of a pipeline with those that each waits for, in an order in which they can run.

    The last is `Report`, which waits for all that nobody else waits for.
    """
    graph = dict(Launcher(config, "graph").upstream)
    waited_for = {before for upstream in graph.values() for before in upstream}
    graph[REPORT] = tuple(node for node in graph if node not in waited_for)
    return graph


def run_command(program: str, profile: storage.AnyPath, config: PipelineConfig, window: str | None) -> list[str]:
    """Returns the command of a whole run, in which `RUN_ID` and `SPAN` stand as words of their own.

    Args:
      program: `clickmill`, as the scheduler finds it.
      profile: the profile's file, as the one who runs it finds it.
      config: the profile.
      window: of days; None: the profile's.

    Raises:
      InputError: for a window of a profile that is not by day.
    """
    by_day = config.ingest.by_day
    if window is not None and not by_day:
        raise InputError(f"{os.fspath(profile)}: `window` is of days, and no table is named by {{SPAN}} or {{DATE}}.")
    command = [program, "run", "--config", os.fspath(profile), "--run-id", RUN_ID]
    command += ["--span", SPAN] if by_day else []
    return command + (["--window", window] if window else [])


def node_command(command: list[str], node: str, skip_unchanged: bool) -> list[str]:
    """Returns the command of one node of a run, from that of the whole."""
    return [*command, "--only", node, *(["--skip-unchanged"] if skip_unchanged and node == "LogIngest" else [])]


def installed_program() -> str:
    """Returns the path of the `clickmill` of this environment, or its name where there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "clickmill")
    return beside if os.path.exists(beside) else shutil.which("clickmill") or "clickmill"
