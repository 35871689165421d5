"""Vocabulary: learns the feature encoding (vocabularies, moments, quantiles) from the train split."""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, TransformGraph

from pipeline.components.base import PropertyDriver
from pipeline.components.training.warm_state import encoding_of_state, find_state


class VocabularyDriver(PropertyDriver):
    """Finds the encoding whose terms may stay: that of the latest model pushed before this day."""

    def resolve(self, execution_info) -> dict[str, str]:
        (examples,) = execution_info.input_dict["examples"]
        push_dirs = json.loads(execution_info.exec_properties["push_dirs"])
        span = examples.span or 0
        states = (find_state(each, examples.uri, span) for each in push_dirs) if span else ()
        found = next((state for state in states if state), None)
        return {"before": encoding_of_state(found) if found else "", "span": str(span), "push_dirs": "[]"}


@component(use_beam=True)
def Vocabulary(
    examples: InputArtifact[Examples],
    feature_spec: Parameter[str],
    encoding: OutputArtifact[TransformGraph],
    push_dirs: Parameter[str] = "[]",
    before: Parameter[str] = "",
    span: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Fits the feature encoding. It is a TransformGraph, so the standard Trainer takes it as its `transform_graph`.

    `feature_spec` is a FeatureSpec as JSON. `push_dirs`, as JSON, is where versions of the models that start warm are
    pushed to: terms of the latest one's encoding stay for `VocabularyRule.ttl_days`. The driver sets `before`, that
    encoding, and `span`.
    """
    from features.encoding.feature_encoding import FeatureEncoding
    from features.encoding.fit import FitEncoding
    from features.encoding.retention import Before
    from features.ingest.spans.config import parse_span
    from features.spec import FeatureSpec

    spec = FeatureSpec.model_validate_json(feature_spec)
    day = None if span in ("", "0") else parse_span(span)
    earlier = FeatureEncoding.load(before) if before else None
    with beam_pipeline as root:
        _ = root | FitEncoding(examples.uri, spec, encoding.uri, None if day is None else Before(earlier, day))


Vocabulary.DRIVER_CLASS = VocabularyDriver
