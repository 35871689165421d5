"""LogIngest: raw log tables to requests, behaviours and dead letters."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec
from tfx.types.standard_artifacts import Examples

from features import storage
from features.ingest.config import IngestConfig
from features.log_contract import UntrainableLogError
from features.spec import FeatureSpec
from pipeline.artifacts import BehaviorLog, DeadLetters
from pipeline.components.base import PropertyDriver
from pipeline.components.fingerprint import fingerprint_paths


class LogIngestSpec(component_spec.ComponentSpec):
    """Interface of LogIngest: the configurations as JSON, and what it writes."""

    PARAMETERS = {
        "ingest_config": component_spec.ExecutionParameter(type=str),
        "feature_spec": component_spec.ExecutionParameter(type=str),
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


class LogIngestDriver(PropertyDriver):
    """Adds `input_fingerprint`, so that other files behind the same paths are ingested again, and `data_format`."""

    def resolve(self, execution_info) -> dict[str, str]:
        config = IngestConfig.model_validate_json(execution_info.exec_properties["ingest_config"])
        return {
            "input_fingerprint": fingerprint_paths(table.path for table in config.tables.given().values()),
            "data_format": DATA_FORMAT,
        }


class LogIngestExecutor(base_beam_executor.BaseBeamExecutor):
    """Runs `features.ingest.ingest_logs.IngestLogs` into the output artifacts."""

    def Do(self, input_dict, output_dict, exec_properties):
        from features.ingest.ingest_logs import IngestLogs, finalize_ingest

        config = IngestConfig.model_validate_json(exec_properties["ingest_config"])
        spec = FeatureSpec.model_validate_json(exec_properties["feature_spec"])
        examples, behaviors, dead_letters = (
            artifact_utils.get_single_instance(output_dict[name]) for name in ("examples", "behaviors", "dead_letters")
        )
        with self._make_beam_pipeline() as root:
            _ = root | IngestLogs(config, spec, examples.uri, behaviors.uri, dead_letters.uri)
        try:
            counts = finalize_ingest(config, spec, examples.uri, dead_letters.uri)
        except UntrainableLogError as error:
            # TFX deletes the outputs of a failed component; the refused rows are what the user now needs.
            raise type(error)(f"{error}\nThe dead letters are in {_keep(dead_letters.uri)}.") from error
        splits = [name for name in config.split.names if config.split.by != "column" or counts.requests[name]]
        examples.split_names = artifact_utils.encode_split_names(splits)
        examples.set_string_custom_property("file_format", "parquet")
        examples.set_string_custom_property(
            "payload_format", example_gen_pb2.PayloadFormat.Name(example_gen_pb2.FORMAT_PARQUET)
        )


class LogIngest(base_beam_component.BaseBeamComponent):
    """Ingests the log (see features/ingest/ingest_logs.py). Its outputs are in docs/reference/data_formats.md."""

    SPEC_CLASS = LogIngestSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(LogIngestExecutor)
    DRIVER_CLASS = LogIngestDriver

    def __init__(self, ingest_config: IngestConfig, feature_spec: FeatureSpec):
        super().__init__(
            LogIngestSpec(
                ingest_config=ingest_config.model_dump_json(),
                feature_spec=feature_spec.model_dump_json(),
                examples=types.Channel(type=Examples),
                behaviors=types.Channel(type=BehaviorLog),
                dead_letters=types.Channel(type=DeadLetters),
            )
        )


def _keep(dead_letters: str) -> str:
    """Copies the dead letters out of the artifact's directory. Returns where to."""
    kept = storage.join(storage.parent(storage.parent(dead_letters)), "refused", storage.name(dead_letters))
    storage.copy_tree(dead_letters, kept)
    return kept
