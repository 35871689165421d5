"""A pipeline compiled for Kubeflow is the pipeline: the same nodes, and the same waits."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from features.errors import InputError
from pipeline.config import load_config
from pipeline.schedule.kubeflow_export import compile_kubeflow, task_graph, write_kubeflow
from tests.serving.deploy.tools import installed_environment

PROFILE = Path(__file__).parents[3] / "tfx_config" / "simulated.yaml"
#: Kubeflow's format, in versions that go with the protobuf of each stack.
PACKAGE = "kfp-pipeline-spec==0.2.2" if sys.version_info < (3, 11) else "kfp-pipeline-spec==2.14.6"


@pytest.fixture
def kfp(monkeypatch):
    """Kubeflow's format, beside the environment and not in it."""
    python = installed_environment(f"kubeflow-{sys.version_info.major}.{sys.version_info.minor}", "--no-deps", PACKAGE)
    (packages,) = python.parents[1].glob("lib/*/site-packages")
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])


def test_kubeflow_takes_few_names():
    config = load_config(PROFILE).model_copy(update={"name": "my_shop"})
    with pytest.raises(InputError, match="small letters, digits and `-`.*'my_shop'"):
        compile_kubeflow(config, "shop:1")


@pytest.mark.slow
def test_the_compiled_graph_is_the_pipeline_s(kfp, tmp_path):
    from pipeline.pipeline import create_pipeline

    config = load_config(PROFILE)
    pipeline = create_pipeline(config)
    job = compile_kubeflow(config, "shop:1")
    assert task_graph(job) == {node.id: {before.id for before in node.upstream_nodes} for node in pipeline.components}
    from tfx.utils.import_utils import import_class_by_path

    from pipeline import artifacts

    spec = job["pipelineSpec"]
    titles = set(re.findall(r"title: (clickmill\.\w+)", str(spec)))
    assert "clickmill.BehaviorLog" in titles and len(titles) > 4
    assert {import_class_by_path(title).__module__ for title in titles} == {"pipeline.artifacts"}
    assert artifacts.BehaviorLog.TYPE_NAME == "BehaviorLog", "what ML Metadata holds is found by that"
    executors = spec["deploymentSpec"]["executors"].values()
    assert {each["container"]["image"] for each in executors} == {"shop:1"}
    write_kubeflow(tmp_path / "pipeline.yaml", job)
    assert yaml.safe_load((tmp_path / "pipeline.yaml").read_text()) == spec
    assert compile_kubeflow(config, "shop:1", schema="2.1")["pipelineSpec"]["schemaVersion"] == "2.1.0"
