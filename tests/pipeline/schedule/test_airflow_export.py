"""The DAG that Airflow reads is the pipeline's own, and takes neither Clickmill nor TensorFlow to read."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.schedule import airflow_export
from pipeline.schedule.airflow_export import describe, write_airflow
from pipeline.schedule.config import KubernetesPods, NodeNeeds, Schedule

ROOT = Path(__file__).parents[3]
PROFILE = ROOT / "tfx_config" / "simulated.yaml"
GRAPH = {"LogIngest": (), "Trainer.autoint": ("LogIngest",), "Pusher.autoint": ("Trainer.autoint",)}
GRAPH["Report"] = ("Pusher.autoint",)
NEEDS = {"default": NodeNeeds(sla_minutes=90), "Trainer": NodeNeeds(cpus=8, memory_mb=9000, pool="gpu", retries=5)}


@pytest.fixture
def described(monkeypatch, tmp_path):
    """Describes a small graph; the keywords are the schedule's."""
    monkeypatch.setattr(airflow_export, "run_graph", lambda config: GRAPH)
    monkeypatch.chdir(tmp_path)
    return lambda **settings: describe(
        load_config(PROFILE), PROFILE, Schedule(nodes=NEEDS, **settings), "it's clickmill"
    )


def read(version: str, folder: Path, home: Path) -> dict:
    """Reads DAG files in an Airflow's own environment."""
    installed = subprocess.run([ROOT / ".ci" / "airflow", version], capture_output=True, text=True)
    if installed.returncode == 77:
        pytest.skip(installed.stderr)
    assert installed.returncode == 0, installed.stderr
    python = ROOT / installed.stdout.strip() / "bin" / "python"
    env = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [python, "-W", "ignore", ROOT / "tests" / "pipeline" / "schedule" / "read_dag.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_graph_is_the_pipeline_s(tmp_path):
    from pipeline.pipeline import create_pipeline

    config = load_config(PROFILE)
    found = describe(config, PROFILE, Schedule(), "clickmill")
    pipeline = create_pipeline(config)
    ours = {(before.id, node.id) for node in pipeline.components for before in node.upstream_nodes}
    ends = {node.id for node in pipeline.components if not node.downstream_nodes}
    assert {tuple(edge) for edge in found["edges"]} == ours | {(end, "Report") for end in ends}
    names = [node["id"] for node in found["nodes"]]
    assert set(names) == {node.id for node in pipeline.components} | {"Report"} and names[-1] == "Report"
    places = {name: place for place, name in enumerate(names)}
    assert all(places[before] < places[after] for before, after in found["edges"])


def test_a_node_s_command_is_that_of_one_node(described):
    found = {node["id"]: node for node in described()["nodes"]}
    whole = ["it's clickmill", "run", "--config", str(PROFILE), "--run-id", "{run_id}", "--only"]
    assert found["LogIngest"]["command"] == [*whole, "LogIngest", "--skip-unchanged"]
    assert found["Report"]["command"] == [*whole, "Report"]
    assert found["Trainer.autoint"]["cpus"] == 8 and found["Pusher.autoint"]["sla_minutes"] == 90


def test_the_dag_file_is_short_and_imports_airflow_alone(described, tmp_path):
    data, dag = write_airflow(tmp_path / "dags", described())
    text = Path(dag).read_text()
    assert len(text.splitlines()) < 80 and Path(data).with_suffix("") == Path(dag).with_suffix("")
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported == {"airflow", "kubernetes", "json", "shlex", "datetime", "pathlib"}


@pytest.mark.slow
@pytest.mark.parametrize("version", os.environ.get("CLICKMILL_AIRFLOW", "3").split(","))
def test_airflow_reads_it(described, tmp_path, version):
    """By default of Airflow 3; `make drills` reads it by 2.11 too."""
    folder = tmp_path / "dags"
    write_airflow(folder, described(cron="30 2 * * *", catch_up=False))
    pods = KubernetesPods(image="shop:1", claim="work", secret="metadata")
    write_airflow(folder, described(kubernetes=pods) | {"pipeline": "pods"})
    found = read(version, folder, tmp_path)
    assert found["errors"] == {} and found["heavy"] == [] and set(found["dags"]) == {"simulated", "pods"}
    dag, pods_dag = found["dags"]["simulated"], found["dags"]["pods"]
    assert dag["edges"] == pods_dag["edges"] == sorted([before, node] for node in GRAPH for before in GRAPH[node])
    assert (dag["catchup"], dag["max_active_runs"], dag["max_active_tasks"]) == (False, 1, 1)
    assert dag["timetable"] == "CronDataIntervalTimetable"
    trainer, pod = dag["tasks"]["Trainer.autoint"], pods_dag["tasks"]["Trainer.autoint"]
    expected = {"operator": "BashOperator", "retries": 5, "retry_s": 300, "timeout_s": 7200, "pool": "gpu"}
    assert {key: trainer[key] for key in expected} == expected and trainer["skips_on"] == pod["skips_on"] == [99]
    assert dag["tasks"]["Report"]["sla_s"] == (5400 if version == "2" else None)
    assert "{{ run_id }}" in trainer["env"]["CLICKMILL_RUN_ID"] and trainer["cwd"] == str(tmp_path)
    assert pod["command"] == ["it's clickmill"] and pod["arguments"][-1] == "Trainer.autoint"
    assert pod["arguments"][4] == "{{ run_id }}" and pod["asked"] == {"cpu": "8.0", "memory": "9000Mi"}
    shell = trainer["command"].replace('"$CLICKMILL_RUN_ID"', "'manual run'")
    told = subprocess.run(["sh", "-c", f'for each in {shell}; do echo "$each"; done'], capture_output=True, text=True)
    assert told.stdout.splitlines()[0] == "it's clickmill" and told.stdout.splitlines()[5] == "manual run"
