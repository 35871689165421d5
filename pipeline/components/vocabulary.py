"""Vocabulary: learns the feature encoding (vocabularies, moments, quantiles) from the train split."""

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, TransformGraph


@component(use_beam=True)
def Vocabulary(
    examples: InputArtifact[Examples],
    feature_spec: Parameter[str],
    encoding: OutputArtifact[TransformGraph],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Fits the feature encoding. It is a TransformGraph, so the standard Trainer takes it as its `transform_graph`.

    `feature_spec` is a FeatureSpec as JSON.
    """
    from features.encoding.fit import FitEncoding
    from features.spec import FeatureSpec

    with beam_pipeline as root:
        _ = root | FitEncoding(examples.uri, FeatureSpec.model_validate_json(feature_spec), encoding.uri)
