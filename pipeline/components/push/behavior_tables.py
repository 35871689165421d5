"""BehaviorTables: bucket tables of every user's long history for the blessed ranker, in the BSE store."""

import json

import apache_beam as beam
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing
from tfx.utils import path_utils

from features import storage
from pipeline.artifacts import BehaviorLog, BehaviorTableSet

SUMMARY_FILE = "behavior_tables.json"


@component(use_beam=True)
def BehaviorTables(
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    behaviors: InputArtifact[BehaviorLog],
    store_dir: Parameter[str],
    precision: Parameter[str],
    tables: OutputArtifact[BehaviorTableSet],
    infra_blessing: InputArtifact[InfraBlessing] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Builds the tables through the ranker's own `encode_behaviors` and publishes them under the ranker's version.

    The ranker is pushed after it: who reads it finds its tables. Writes nothing where the ranker was not blessed, or
    cannot be served. The artifact holds what was built; the tables are in `store_dir`.
    """
    from serving.user_stores.bse.table_job import build_behavior_tables

    built = None
    served = infra_blessing is None or model_utils.is_infra_validated(infra_blessing)
    if served and model_utils.is_model_blessed(blessing):
        export = path_utils.serving_model_path(model.uri)
        built = build_behavior_tables(export, behaviors.uri, store_dir, precision=precision, root=beam_pipeline)
    storage.write_text(storage.join(tables.uri, SUMMARY_FILE), json.dumps(built))
