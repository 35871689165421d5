"""A pipeline for Airflow: a JSON of its nodes, edges, commands and needs, and a DAG file that reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from features import storage
from pipeline.config import PipelineConfig
from pipeline.run.metadata_server import read_server
from pipeline.schedule.commands import node_command, run_command, run_graph
from pipeline.schedule.config import Schedule

#: Of the JSON; the DAG file beside it is of the same.
FORMAT = 1


def describe(config: PipelineConfig, profile: storage.AnyPath, schedule: Schedule, program: str) -> dict[str, Any]:
    """Returns what the DAG file needs to know of a pipeline.

    Args:
      config: the pipeline.
      profile: its file.
      schedule: when it runs, and what its nodes get.
      program: `clickmill`, as the workers find it.

    Raises:
      SpecError: if the schedule does not fit the pipeline.
    """
    graph = run_graph(config)
    schedule = schedule.for_pipeline(list(graph), one_writer=read_server(config.metadata_path) is None)
    # A worker of this machine finds the profile from anywhere, a pod in the working directory of its image.
    path = profile if schedule.kubernetes else storage.absolute(profile)
    command = run_command(program, path, config, schedule.window)
    nodes = [
        {
            "id": node,
            "command": node_command(command, node, schedule.skip_unchanged),
            **schedule.needs(node).model_dump(),
        }
        for node in graph
    ]
    facts = ("cron", "timezone", "catch_up", "tasks_at_once", "timeout_minutes")
    return {
        "format": FORMAT,
        "pipeline": config.name,
        "start": schedule.start.isoformat(),
        **{fact: getattr(schedule, fact) for fact in facts},
        "folder": os.getcwd(),
        "kubernetes": schedule.kubernetes and schedule.kubernetes.model_dump(),
        "nodes": nodes,
        "edges": [[before, node] for node, upstream in graph.items() for before in upstream],
    }


def write_airflow(out: storage.AnyPath, described: dict[str, Any]) -> tuple[str, str]:
    """Writes `<pipeline>.json` and `<pipeline>.py` into a folder of DAG files; returns their paths.

    The JSON comes first: a scheduler that looks meanwhile finds the DAG file of before, which reads it.
    """
    data = storage.join(out, f"{described['pipeline']}.json")
    dag = storage.join(out, f"{described['pipeline']}.py")
    storage.write_text(data, json.dumps(described, indent=2) + "\n")
    storage.write_text(dag, (Path(__file__).parent / "templates" / "airflow_dag.py.txt").read_text(encoding="utf-8"))
    return data, dag
