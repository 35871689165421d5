"""FeatureEncoder: turns raw requests and behaviours into ids and numbers, split by split."""

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, TransformGraph

from features import storage
from features.examples.raw_sample import RAW_SAMPLE_FILE, write_raw_sample
from pipeline.artifacts import BehaviorLog
from pipeline.components.base import inherit_properties


@component(use_beam=True)
def FeatureEncoder(
    examples: InputArtifact[Examples],
    behaviors: InputArtifact[BehaviorLog],
    encoding: InputArtifact[TransformGraph],
    encoded_examples: OutputArtifact[Examples],
    sample_requests: Parameter[int],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Writes encoded requests per split, the encoded behaviour log and the encoded catalogue into one artifact.

    They are one artifact because the standard Trainer has one `examples` input; for the same reason the first
    `sample_requests` raw requests of the train split are kept in it.
    """
    from features.encoding.encode import EncodeExamples
    from features.encoding.feature_encoding import FeatureEncoding

    with beam_pipeline as root:
        _ = root | EncodeExamples(examples.uri, behaviors.uri, encoding.uri, encoded_examples.uri)
    inherit_properties(encoded_examples, examples)
    spec = FeatureEncoding.load(encoding.uri).spec
    sample = storage.join(encoded_examples.uri, RAW_SAMPLE_FILE)
    write_raw_sample(examples.uri, behaviors.uri, spec, sample_requests, sample)
