"""CascadeEvaluator: judges retrieval, coarse and fine ranking as one, beside the fine ranker over everything."""

import numpy as np
import pyarrow.parquet as pq
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelEvaluation
from tfx.utils import path_utils

from evaluation.cascade.config import CascadeSection
from features import storage
from features.items.catalogue import CATALOGUE_FILE
from pipeline.artifacts import BehaviorLog
from pipeline.run.lanes.quiet import alone

SCORES_FILE = "scores.parquet"


@component
def CascadeEvaluator(
    examples: InputArtifact[Examples],
    behaviors: InputArtifact[BehaviorLog],
    two_tower: InputArtifact[Model],
    ranker: InputArtifact[Model],
    cascade_config: Parameter[str],
    ranker_name: Parameter[str],
    split: Parameter[str],
    evaluation: OutputArtifact[ModelEvaluation],
    coarse: InputArtifact[Model] = None,
):
    """Writes `cascade_evaluation.json` of freshly trained models, and `scores.parquet` to draw other curves from.

    It blesses nothing: each model has an evaluator of its own. Its verdict is about n₁ and n₂. `cascade_config` is a
    `CascadeSection` as JSON, `split` one of the raw examples.
    """
    from serving.cascade import Cascade

    section = CascadeSection.model_validate_json(cascade_config)
    exports = [
        path_utils.serving_model_path(model.uri) if model is not None else None for model in (two_tower, ranker, coarse)
    ]
    items = storage.join(examples.uri, CATALOGUE_FILE)
    cascade = Cascade.load(*exports[:2], items, coarse=exports[2], config=section)
    table, result = judge(cascade, section, examples.uri, behaviors.uri, split, ranker_name)
    result.save(evaluation.uri)
    with storage.aside(storage.join(evaluation.uri, SCORES_FILE)) as path:
        pq.write_table(table, path, compression="zstd")


def judge(cascade, section: CascadeSection, examples_dir: str, behaviors_dir: str, split: str, ranker: str):
    """Returns the scores of the sampled requests (one row each) and the `CascadeEvaluation`."""
    from evaluation.baselines import count_items
    from evaluation.cascade.costs import CascadeCosts, StageCost
    from evaluation.cascade.evaluate import evaluate_cascade
    from evaluation.cascade.scores import CascadeScores
    from serving.offline.cascade_scoring import (
        References,
        measure_stages,
        measure_whole_catalogue,
        sample_requests,
        score_cascade,
    )

    requests = sample_requests(examples_dir, behaviors_dir, split, cascade, section.sample_requests, section.seed)
    width = max(section.retrieve, *section.evaluation.retrieve_grid)
    popularity = count_items(examples_dir, cascade.ranker.spec.label).clicks_of(cascade.catalogue.item_ids)
    references = References(popularity, section.retrieve, section.seed)
    table = score_cascade(cascade, requests, width, section.top_k, references=references)
    sizes = tuple(dict.fromkeys([section.coarse, *section.evaluation.retrieve_grid, section.retrieve]))
    with alone():
        timed = measure_stages(cascade, requests, sizes, section.timed_requests)
        whole = measure_whole_catalogue(cascade, requests, section.timed_requests)
    stages = {stage: StageCost.fit(*measured) for stage, measured in timed.items()}
    costs = CascadeCosts(**stages, ideal_seconds=float(np.median(whole)))
    scores = CascadeScores.from_table(table, len(cascade.catalogue))
    return table, evaluate_cascade(scores, section, section.evaluation, costs, ranker)
