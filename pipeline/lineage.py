"""What a run did, read back from ML Metadata: components, their times, what they wrote.

Holds for every orchestrator, since all of them record into the same store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from features import storage


@dataclass(frozen=True)
class ComponentRun:
    """One component of one run.

    Attributes:
      component: its id in the pipeline.
      state: `COMPLETE`, `CACHED`, `FAILED`, `RUNNING` …, as ML Metadata names it.
      started, finished: seconds since the epoch.
      outputs: {output name: directory}; where it was cached, those of the execution that did the work.
      properties: {output name: its custom properties}, for example `blessed` of a ModelBlessing.
    """

    component: str
    state: str
    started: float
    finished: float
    outputs: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, int | float | str]] = field(default_factory=dict)

    @property
    def cached(self) -> bool:
        return self.state == "CACHED"

    @property
    def seconds(self) -> float:
        return max(self.finished - self.started, 0.0)


def last_execution_id(metadata_path: storage.AnyPath) -> int:
    """Returns the id of the newest execution in the store, 0 if there is none yet."""
    if not storage.is_file(metadata_path):
        return 0
    return max((execution.id for execution in _store(metadata_path).get_executions()), default=0)


def component_runs(metadata_path: storage.AnyPath, pipeline_name: str, after: int = 0) -> list[ComponentRun]:
    """Returns the components of `pipeline_name` that were started after the execution `after`, in that order."""
    from ml_metadata.proto import metadata_store_pb2 as pb

    store = _store(metadata_path)
    executions = sorted((e for e in store.get_executions() if e.id > after), key=lambda execution: execution.id)
    outputs: dict[int, list[tuple[str, int]]] = {}
    for event in store.get_events_by_execution_ids([e.id for e in executions]) if executions else ():
        if event.type in (pb.Event.OUTPUT, pb.Event.DECLARED_OUTPUT):
            outputs.setdefault(event.execution_id, []).append((event.path.steps[0].key, event.artifact_id))
    artifacts = {a.id: a for a in store.get_artifacts_by_id([i for pairs in outputs.values() for _, i in pairs])}
    runs = []
    for execution in executions:
        prefix = f"{pipeline_name}."
        nodes = [c.name for c in store.get_contexts_by_execution(execution.id) if c.type == "node"]
        nodes = [name.removeprefix(prefix) for name in nodes if name.startswith(prefix)]
        if nodes:
            written = {key: artifacts[artifact_id] for key, artifact_id in outputs.get(execution.id, ())}
            runs.append(
                ComponentRun(
                    component=nodes[0],
                    state=pb.Execution.State.Name(execution.last_known_state),
                    started=execution.create_time_since_epoch / 1000,
                    finished=execution.last_update_time_since_epoch / 1000,
                    outputs={key: artifact.uri for key, artifact in written.items()},
                    properties={key: _properties(artifact) for key, artifact in written.items()},
                )
            )
    return runs


def outputs_by_component(runs: Sequence[ComponentRun]) -> dict[str, dict[str, str]]:
    """Returns {component: {output name: directory}}."""
    return {run.component: run.outputs for run in runs}


def metadata_connection(metadata_path: storage.AnyPath):
    """Returns the connection to ML Metadata in an SQLite file, which is made when it is first written to."""
    from ml_metadata.proto import metadata_store_pb2 as pb

    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = storage.absolute(metadata_path)
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return config


def _store(metadata_path: storage.AnyPath):
    from ml_metadata.metadata_store import MetadataStore

    return MetadataStore(metadata_connection(metadata_path))


def _properties(artifact) -> dict[str, int | float | str]:
    values = {}
    for name, value in artifact.custom_properties.items():
        kind = value.WhichOneof("value")
        if kind in ("int_value", "double_value", "string_value"):
            values[name] = getattr(value, kind)
    return values
