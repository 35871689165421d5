"""FeatureEncoder: turns raw requests and behaviours into ids and numbers, split by split."""

from pathlib import Path

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, TransformGraph

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
    from features.encoding.encode import encode_examples
    from features.encoding.feature_encoding import FeatureEncoding

    with beam_pipeline as root:
        encode_examples(root, examples.uri, behaviors.uri, encoding.uri, encoded_examples.uri)
    inherit_properties(encoded_examples, examples)
    spec = FeatureEncoding.load(encoding.uri).spec
    sample = Path(encoded_examples.uri) / RAW_SAMPLE_FILE
    write_raw_sample(Path(examples.uri), Path(behaviors.uri), spec, sample_requests, sample)
