"""A pipeline of three quick nodes, made as the real one is: `Make` → `Double` → `Add`, which reads both."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples, Model

from features import storage
from features.errors import NothingNewError
from pipeline.run.lineage import metadata_connection


def value_of(uri: str) -> int:
    return int(storage.read_text(storage.join(uri, "value")))


def _write(uri: str, value: int) -> None:
    storage.write_text(storage.join(uri, "value"), str(value))


@component
def Make(source: Parameter[str], value: Parameter[str], examples: OutputArtifact[Examples]):
    """Writes the value. What the file `source` says happens to it first."""
    told = storage.read_text(source) if storage.is_file(source) else ""
    if told == "nothing new":
        raise NothingNewError("nothing to do")
    if told == "killed":
        storage.write_text(storage.join(examples.uri, "half of it"), "")
        raise KeyboardInterrupt  # Which TFX does not catch: ML Metadata holds what it holds of a killed process.
    if told:
        raise ValueError(told)
    _write(examples.uri, int(value))


@component
def Double(examples: InputArtifact[Examples], model: OutputArtifact[Model]):
    """Writes twice the value."""
    _write(model.uri, 2 * value_of(examples.uri))


@component
def Add(examples: InputArtifact[Examples], model: InputArtifact[Model], sum_of_both: OutputArtifact[Model]):
    """Writes the sum."""
    _write(sum_of_both.uri, value_of(examples.uri) + value_of(model.uri))


def create_small_pipeline(config) -> Pipeline:
    """As `pipeline.pipeline.create_pipeline`; the value is the profile's number of warm-up requests."""
    make = Make(source=storage.join(config.run_dir, "source"), value=str(config.warmup_requests))
    double = Double(examples=make.outputs["examples"])
    add = Add(examples=make.outputs["examples"], model=double.outputs["model"])
    return pipeline_of(config, [make, double, add])


def pipeline_of(config, nodes: list) -> Pipeline:
    """The pipeline of a profile, of other nodes."""
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=config.pipeline_root,
        components=nodes,
        enable_cache=config.enable_cache,
        metadata_connection_config=metadata_connection(config.metadata_path),
    )
