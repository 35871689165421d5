"""Reads DAG files as Airflow's scheduler does, in Airflow's own environment: `python read_dag.py FOLDER`, prints JSON.

Imports nothing of Clickmill, and is imported by nothing of it.
"""

import json
import sys
import time

try:  # Airflow 3
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models import DagBag


def read(folder: str) -> dict:
    modules = set(sys.modules)
    started = time.perf_counter()
    bag = DagBag(folder)
    seconds = time.perf_counter() - started
    heavy = {name.partition(".")[0] for name in set(sys.modules) - modules} & {
        "tensorflow",
        "tfx",
        "pipeline",
        "features",
    }
    dags = {}
    for name, dag in bag.dags.items():
        dags[name] = {
            "edges": sorted([task.task_id, after] for task in dag.tasks for after in task.downstream_task_ids),
            "tasks": {task.task_id: described(task) for task in dag.tasks},
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "max_active_tasks": dag.max_active_tasks,
            "timetable": type(dag.timetable).__name__,
        }
    errors = {str(file): error for file, error in bag.import_errors.items()}
    return {"errors": errors, "heavy": sorted(heavy), "dags": dags, "seconds": seconds}


def described(task) -> dict:
    sla = getattr(task, "sla", None)
    found = {
        "operator": type(task).__name__,
        "retries": task.retries,
        "retry_s": task.retry_delay.total_seconds(),
        "timeout_s": task.execution_timeout.total_seconds(),
        "pool": task.pool,
        "skips_on": sorted(task.skip_on_exit_code),
        "sla_s": sla and sla.total_seconds(),
    }
    if hasattr(task, "bash_command"):
        return {**found, "command": task.bash_command, "env": task.env, "cwd": task.cwd}
    resources = task.container_resources
    asked = {"cpu": resources.requests["cpu"], "memory": resources.limits["memory"]}
    return {**found, "command": task.cmds, "arguments": task.arguments, "image": task.image, "asked": asked}


if __name__ == "__main__":
    print("\n" + json.dumps(read(sys.argv[1])))
