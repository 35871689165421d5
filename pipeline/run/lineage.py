"""What a run did, read back from ML Metadata: components, their times, what they wrote.

Holds for every orchestrator, since all of them record into the same store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from features import storage
from features.errors import RunError
from pipeline.run.metadata_server import read_server

#: TFX's type of the contexts that hold the executions of one run.
RUN_CONTEXT = "pipeline_run"


@dataclass(frozen=True)
class ComponentRun:
    """One component of one run.

    Attributes:
      component: its id in the pipeline.
      state: `COMPLETE`, `CACHED`, `FAILED`, `RUNNING` …, as ML Metadata names it.
      started, finished: seconds since the epoch.
      outputs: {output name: directory}; where it was cached, those of the execution that did the work.
      properties: {output name: its custom properties}, for example `blessed` of a ModelBlessing.
      execution: its number in ML Metadata, by which TFX names the folders of its outputs.
    """

    component: str
    state: str
    started: float
    finished: float
    outputs: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, int | float | str]] = field(default_factory=dict)
    execution: int = 0

    @property
    def cached(self) -> bool:
        return self.state == "CACHED"

    @property
    def seconds(self) -> float:
        return max(self.finished - self.started, 0.0)


def run_context(pipeline_name: str, run_id: str, round_: int = 1) -> str:
    """Returns the name of the ML Metadata context of a run: pipelines may share a server, and a run may begin anew."""
    return f"{pipeline_name}.{run_id}" + (f".{round_}" if round_ > 1 else "")


def last_round(metadata: storage.AnyPath, pipeline_name: str, run_id: str) -> int:
    """Returns how often a run began anew, 1 for a run that did so once or not at all."""
    if _is_new(metadata):
        return 1
    store, found = _store(metadata), 1
    while store.get_context_by_type_and_name(RUN_CONTEXT, run_context(pipeline_name, run_id, found + 1)):
        found += 1
    return found


def last_execution_id(metadata: storage.AnyPath) -> int:
    """Returns the id of the newest execution in the store, 0 if there is none yet."""
    if _is_new(metadata):
        return 0
    return max((execution.id for execution in _store(metadata).get_executions()), default=0)


def component_runs(
    metadata: storage.AnyPath, pipeline_name: str, after: int = 0, run: str | None = None
) -> list[ComponentRun]:
    """Returns components of a pipeline in the order in which they were started.

    Args:
      metadata: a file or a server, as of `metadata_connection`.
      pipeline_name: the pipeline.
      after: only those that were started after this execution.
      run: only those of the run of this context (`run_context`).
    """
    from ml_metadata.proto import metadata_store_pb2 as pb

    if _is_new(metadata):
        return []
    store = _store(metadata)
    executions = sorted((e for e in _executions(store, run) if e.id > after), key=lambda execution: execution.id)
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
                    execution=execution.id,
                )
            )
    return runs


def outputs_by_component(runs: Sequence[ComponentRun]) -> dict[str, dict[str, str]]:
    """Returns {component: {output name: directory}}."""
    return {run.component: run.outputs for run in runs}


def metadata_connection(metadata: storage.AnyPath):
    """Returns the connection to ML Metadata.

    Args:
      metadata: a local path: an SQLite file, made when it is first written to. Or the URI of a database that is there
        already, as `postgresql://user@host:5432/database` or `mysql://…`; its password stands in the URI or, so that
        no profile holds it, in `CLICKMILL_METADATA_PASSWORD`.

    Raises:
      InputError: for a URI that names no database of a server.
    """
    from ml_metadata.proto import metadata_store_pb2 as pb

    config = pb.ConnectionConfig()
    server = read_server(metadata)
    if server is None:
        config.sqlite.filename_uri = storage.absolute(metadata)
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    elif server.kind == "postgresql":
        config.postgresql.host, config.postgresql.port = server.host, str(server.port)
        config.postgresql.dbname, config.postgresql.user = _quoted(server.database), _quoted(server.user)
        config.postgresql.password = _quoted(server.password)
        config.postgresql.skip_db_creation = True  # A user who may make databases is no user for a pipeline.
    else:
        config.mysql.host, config.mysql.port, config.mysql.database = server.host, server.port, server.database
        config.mysql.user, config.mysql.password = server.user, server.password
        config.mysql.skip_db_creation = True
    return config


def _quoted(word: str) -> str:
    """A word as libpq's connection strings take it: ML Metadata puts one together as words are given."""
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return word if word.isalnum() else f"'{escaped}'"


def _is_new(metadata: storage.AnyPath) -> bool:
    """Whether nothing was ever written to a file of ML Metadata."""
    return read_server(metadata) is None and not storage.is_file(metadata)


def _executions(store, run: str | None):
    if run is None:
        return store.get_executions()
    context = store.get_context_by_type_and_name(RUN_CONTEXT, run)
    return store.get_executions_by_context(context.id) if context else []


def _store(metadata: storage.AnyPath):
    from ml_metadata.metadata_store import MetadataStore

    connection, server = metadata_connection(metadata), read_server(metadata)
    try:
        return MetadataStore(connection)
    except RuntimeError as error:
        if server is None:
            raise
        where = f"{server.kind}://{server.user}@{server.host}:{server.port}/{server.database}"
        raise RunError(f"{where}: ML Metadata's server does not let us in: {error}.") from error


def _properties(artifact) -> dict[str, int | float | str]:
    values = {}
    for name, value in artifact.custom_properties.items():
        kind = value.WhichOneof("value")
        if kind in ("int_value", "double_value", "string_value"):
            values[name] = getattr(value, kind)
    return values
