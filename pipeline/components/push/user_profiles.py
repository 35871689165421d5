"""UserProfiles: users' request features and newest behaviours, in the profile store."""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from features import storage
from pipeline.artifacts import BehaviorLog, ProfileSet

PROFILES_FILE = "profiles.json"


@component(use_beam=True)
def UserProfiles(
    examples: InputArtifact[Examples],
    behaviors: InputArtifact[BehaviorLog],
    feature_spec: Parameter[str],
    store_dir: Parameter[str],
    length: Parameter[int],
    profiles: OutputArtifact[ProfileSet],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Builds the profiles of all users of the log and publishes them in `store_dir`, with `length` behaviours each.

    Fine rankers are pushed after it. Profiles say nothing of any model: they are published whatever is pushed. The
    artifact holds what was built.
    """
    from features.spec import FeatureSpec
    from serving.user_stores.profiles.build import build_profiles

    spec = FeatureSpec.model_validate_json(feature_spec)
    built = build_profiles(spec, examples.uri, behaviors.uri, store_dir, length=length, root=beam_pipeline)
    storage.write_text(storage.join(profiles.uri, PROFILES_FILE), json.dumps(built))
