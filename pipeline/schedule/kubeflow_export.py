"""A pipeline for Kubeflow Pipelines and Vertex AI, compiled by TFX's KubeflowV2DagRunner."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from features import storage
from features.errors import InputError
from pipeline.config import PipelineConfig

#: As TFX asks for it.
_NAME = r"[a-z0-9][a-z0-9-]{0,127}"


def compile_kubeflow(config: PipelineConfig, image: str, schema: str = "2.0") -> dict[str, Any]:
    """Returns the pipeline as a PipelineJob of Kubeflow.

    Every component runs in a container of the image, which has Clickmill and `kfp-pipeline-spec` installed. Kubeflow
    keeps ML Metadata and artifacts itself: runs, serving root and tables lie where all containers reach them.

    Args:
      config: the pipeline.
      image: of the containers.
      schema: of the specification, 2.0 or 2.1.

    Raises:
      InputError: for a name that Kubeflow does not take, or where `kfp-pipeline-spec` is not installed.
    """
    if not re.fullmatch(_NAME, config.name):
        raise InputError(
            f"Kubeflow takes small letters, digits and `-` as a pipeline's name, 128 at most. Received: {config.name!r}"
        )
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(config)  # first: `pipeline.components` chooses the Keras
    try:
        from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
            KubeflowV2DagRunner,
            KubeflowV2DagRunnerConfig,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "kfp":
            raise
        raise InputError(
            "Kubeflow's format is in the package kfp-pipeline-spec, which is no part of Clickmill's environment: "
            "`pip install --no-deps kfp-pipeline-spec` (0.2.2 beside TFX 1.16, 2.14.6 beside TFX 1.21)."
        ) from error
    settings = KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=schema == "2.1")
    with _importable_names():
        return KubeflowV2DagRunner(settings).run(pipeline, write_out=False)


@contextlib.contextmanager
def _importable_names() -> Iterator[None]:
    """Calls our types of artifacts as Kubeflow has it: by a path that a container imports them from.

    ML Metadata knows them by the class's name, and finds what was written before by that.
    """
    from pipeline import artifacts

    ours = [kind for kind in vars(artifacts).values() if getattr(kind, "__module__", "") == artifacts.__name__]
    names = {kind: kind.TYPE_NAME for kind in ours}
    try:
        for kind in ours:
            kind.TYPE_NAME = f"clickmill.{kind.__name__}"
        yield
    finally:
        for kind, name in names.items():
            kind.TYPE_NAME = name


def write_kubeflow(out: storage.AnyPath, job: dict[str, Any]) -> None:
    """Writes a compiled pipeline: its specification as YAML where the file is called so, else the whole job as JSON."""
    import json

    import yaml

    if os.fspath(out).endswith((".yaml", ".yml")):
        storage.write_text(out, yaml.safe_dump(job["pipelineSpec"], sort_keys=True))
    else:
        storage.write_text(out, json.dumps(job, indent=2, sort_keys=True) + "\n")


def task_graph(job: dict[str, Any]) -> dict[str, set[str]]:
    """Returns the tasks of a compiled pipeline with those that each waits for."""
    graph = {}
    for name, task in job["pipelineSpec"]["root"]["dag"]["tasks"].items():
        given = task.get("inputs", {}).get("artifacts", {}).values()
        producers = {each["taskOutputArtifact"]["producerTask"] for each in given if "taskOutputArtifact" in each}
        graph[name] = producers | set(task.get("dependentTasks", ()))
    return graph
