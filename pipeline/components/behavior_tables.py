"""BehaviorTables: bucket tables of every user's long history for the pushed ranker, in the BSE store."""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import PushedModel

from features import storage
from pipeline.artifacts import BehaviorLog, BehaviorTableSet

SUMMARY_FILE = "behavior_tables.json"


@component(use_beam=True)
def BehaviorTables(
    pushed_model: InputArtifact[PushedModel],
    behaviors: InputArtifact[BehaviorLog],
    store_dir: Parameter[str],
    precision: Parameter[str],
    tables: OutputArtifact[BehaviorTableSet],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Builds the tables through the ranker's own `encode_behaviors` and publishes them under the ranker's version.

    Writes nothing where the ranker was not pushed. The artifact holds what was built; the tables are in `store_dir`.
    """
    from serving.bse.table_job import build_behavior_tables

    built = None
    if pushed_model.get_int_custom_property("pushed") == 1:
        built = build_behavior_tables(
            pushed_model.uri, behaviors.uri, store_dir, precision=precision, root=beam_pipeline
        )
    storage.write_text(storage.join(tables.uri, SUMMARY_FILE), json.dumps(built))
