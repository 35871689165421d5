"""LogIngest: raw log tables to requests, behaviours and dead letters."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec
from tfx.types.standard_artifacts import Examples

from features import storage
from features.errors import NotFoundError, UnscorableError
from features.ingest.checking.kept import KeptFeatures
from features.ingest.config import IngestConfig
from features.ingest.reading.fingerprint import fingerprint_paths
from features.log_contract import UntrainableLogError
from features.spec import FeatureSpec
from pipeline.artifacts import BehaviorLog, DeadLetters
from pipeline.components.base import PropertyDriver
from pipeline.release.anchor import pushed_versions, read_anchors
from serving.saved.saved_model import read_spec


class LogIngestSpec(component_spec.ComponentSpec):
    """Interface of LogIngest: the configurations as JSON, and what it writes."""

    PARAMETERS = {
        "ingest_config": component_spec.ExecutionParameter(type=str),
        "feature_spec": component_spec.ExecutionParameter(type=str),
        "push_dirs": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {
        "examples": component_spec.ChannelParameter(type=Examples),
        "behaviors": component_spec.ChannelParameter(type=BehaviorLog),
        "dead_letters": component_spec.ChannelParameter(type=DeadLetters),
    }


#: Of the output (docs/reference/data_formats.md): what an earlier version of this component wrote may lack what readers
#: now need.
DATA_FORMAT = "3"
#: An execution property, and a custom property of the examples: what stands behind the paths of the tables.
INPUT_FINGERPRINT = "input_fingerprint"


class LogIngestDriver(PropertyDriver):
    """Adds what the examples depend on besides: other values mean another ingestion.

    `input_fingerprint`: of the files behind the paths. `kept_features`: what the pushed models, and their anchors, read
    that the spec does not name; `push_dirs`, where these are, is emptied, for other models of the same features need no
    other examples. `data_format`: of the outputs.
    """

    def resolve(self, execution_info) -> dict[str, str]:
        given = execution_info.exec_properties
        config = IngestConfig.model_validate_json(given["ingest_config"])
        spec = FeatureSpec.model_validate_json(given["feature_spec"])
        kept = KeptFeatures.of(spec, compared_specs(json.loads(given["push_dirs"])))
        return {
            INPUT_FINGERPRINT: _fingerprint(config, spec),
            "kept_features": kept.model_dump_json(),
            "push_dirs": "",
            "data_format": DATA_FORMAT,
        }


def compared_specs(push_dirs: Iterable[str]) -> Iterator[FeatureSpec]:
    """Yields the features of all pushed versions of models and of their anchors, of each model the latest first.

    All versions, not the live ones alone: what the examples hold must not change by the push that they lead to.
    """
    for push_dir in push_dirs:
        for version in (*pushed_versions(push_dir), *(folder for folder, _ in read_anchors(push_dir))):
            with contextlib.suppress(NotFoundError, UnscorableError):  # The evaluator says so.
                yield read_spec(version)


class LogIngestExecutor(base_beam_executor.BaseBeamExecutor):
    """Runs `features.ingest.ingest_logs.IngestLogs` into the output artifacts."""

    def Do(self, input_dict, output_dict, exec_properties):
        from features.ingest.ingest_logs import IngestLogs, finalize_ingest
        from features.ingest.spans.ingest_window import ingest_window

        config = IngestConfig.model_validate_json(exec_properties["ingest_config"])
        spec = FeatureSpec.model_validate_json(exec_properties["feature_spec"])
        kept = KeptFeatures.model_validate_json(exec_properties["kept_features"])
        examples, behaviors, dead_letters = (
            artifact_utils.get_single_instance(output_dict[name]) for name in ("examples", "behaviors", "dead_letters")
        )
        folders = (examples.uri, behaviors.uri, dead_letters.uri)
        try:
            if config.window is not None:
                counts = ingest_window(config, spec, *folders, kept, self._make_beam_pipeline)
                examples.span = int(config.window.span.strftime("%Y%m%d"))
            else:
                with self._make_beam_pipeline() as root:
                    _ = root | IngestLogs(config, spec, *folders, kept=kept)
                counts = finalize_ingest(config, spec, examples.uri, dead_letters.uri)
        except UntrainableLogError as error:
            # TFX deletes the outputs of a failed component; the refused rows are what the user now needs.
            raise type(error)(f"{error}\nThe dead letters are in {_keep(dead_letters.uri)}.") from error
        splits = [name for name in config.split.names if config.split.by != "column" or counts.requests[name]]
        examples.split_names = artifact_utils.encode_split_names(splits)
        examples.set_string_custom_property("file_format", "parquet")
        examples.set_string_custom_property(INPUT_FINGERPRINT, exec_properties[INPUT_FINGERPRINT])
        examples.set_string_custom_property(
            "payload_format", example_gen_pb2.PayloadFormat.Name(example_gen_pb2.FORMAT_PARQUET)
        )


class LogIngest(base_beam_component.BaseBeamComponent):
    """Ingests the log (see features/ingest/ingest_logs.py). Its outputs are in docs/reference/data_formats.md.

    Args:
      ingest_config: tables, labels, split.
      feature_spec: the features that models learn from.
      push_dirs: where versions of the models are pushed to: what these read is kept, as far as the log has it.
    """

    SPEC_CLASS = LogIngestSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(LogIngestExecutor)
    DRIVER_CLASS = LogIngestDriver

    def __init__(self, ingest_config: IngestConfig, feature_spec: FeatureSpec, push_dirs: Sequence[str] = ()):
        super().__init__(
            LogIngestSpec(
                ingest_config=ingest_config.model_dump_json(),
                feature_spec=feature_spec.model_dump_json(),
                push_dirs=json.dumps(list(push_dirs)),
                examples=types.Channel(type=Examples),
                behaviors=types.Channel(type=BehaviorLog),
                dead_letters=types.Channel(type=DeadLetters),
            )
        )


def _fingerprint(config: IngestConfig, spec: FeatureSpec) -> str:
    """Returns what changes when the files do that a run reads; of a log by day, those of its days."""
    if config.window is None:
        return fingerprint_paths(table.path for table in config.tables.given().values())
    from features.ingest.spans.day_folders import Days

    return fingerprint_paths(Days(config, spec).paths())


def _keep(dead_letters: str) -> str:
    """Copies the dead letters out of the artifact's directory. Returns where to."""
    kept = storage.join(storage.parent(storage.parent(dead_letters)), "refused", storage.name(dead_letters))
    storage.copy_tree(dead_letters, kept)
    return kept
