"""CascadeEvaluator: judges retrieval, coarse and fine ranking as one, beside the fine ranker over everything."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec
from tfx.types.standard_artifacts import Examples, Model, ModelEvaluation

from evaluation.cascade.config import CascadeSection
from features.items.catalogue import CATALOGUE_FILE
from pipeline.artifacts import BehaviorLog
from pipeline.components.evaluators.evaluator import serving_path

SCORES_FILE = "scores.parquet"


class CascadeEvaluatorSpec(component_spec.ComponentSpec):
    """Interface of the cascade's evaluator."""

    PARAMETERS = {
        "cascade_config": component_spec.ExecutionParameter(type=str),
        "ranker_name": component_spec.ExecutionParameter(type=str),
        "split": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=Examples),
        "behaviors": component_spec.ChannelParameter(type=BehaviorLog),
        "two_tower": component_spec.ChannelParameter(type=Model),
        "ranker": component_spec.ChannelParameter(type=Model),
        "coarse": component_spec.ChannelParameter(type=Model, optional=True),
    }
    OUTPUTS = {"evaluation": component_spec.ChannelParameter(type=ModelEvaluation)}


class CascadeEvaluatorExecutor(base_executor.BaseExecutor):
    """Scores sampled requests by every stage, times the stages, evaluates, and writes the standard artifact."""

    def Do(self, input_dict, output_dict, exec_properties):
        from serving.cascade import Cascade

        section = CascadeSection.model_validate_json(exec_properties["cascade_config"])
        examples, behaviors = (
            artifact_utils.get_single_instance(input_dict[name]) for name in ("examples", "behaviors")
        )
        cascade = Cascade.load(
            serving_path(input_dict, "two_tower"),
            serving_path(input_dict, "ranker"),
            Path(examples.uri) / CATALOGUE_FILE,
            coarse=serving_path(input_dict, "coarse") if input_dict.get("coarse") else None,
            config=section,
        )
        table, result = judge(
            cascade, section, examples.uri, behaviors.uri, exec_properties["split"], exec_properties["ranker_name"]
        )
        directory = artifact_utils.get_single_instance(output_dict["evaluation"]).uri
        result.save(directory)
        pq.write_table(table, Path(directory) / SCORES_FILE, compression="zstd")


def judge(cascade, section: CascadeSection, examples_dir: str, behaviors_dir: str, split: str, ranker: str):
    """Returns the scores of the sampled requests (one row each) and the `CascadeEvaluation`."""
    from evaluation.cascade.costs import CascadeCosts, StageCost
    from evaluation.cascade.evaluate import evaluate_cascade
    from evaluation.cascade.scores import CascadeScores
    from serving.offline.cascade_scoring import measure_stages, sample_requests, score_cascade

    requests = sample_requests(examples_dir, behaviors_dir, split, cascade, section.sample_requests, section.seed)
    width = max(section.retrieve, *section.evaluation.retrieve_grid)
    table = score_cascade(cascade, requests, width, section.top_k)
    sizes = tuple(dict.fromkeys([section.coarse, *section.evaluation.retrieve_grid, section.retrieve]))
    timed = measure_stages(cascade, requests, sizes, section.timed_requests)
    costs = CascadeCosts(
        **{stage: StageCost.fit(*measured) for stage, measured in timed.items()},
        ideal_seconds=float(np.median(table["ideal_seconds"].to_numpy())),
    )
    scores = CascadeScores.from_table(table, len(cascade.catalogue))
    return table, evaluate_cascade(scores, section, section.evaluation, costs, ranker)


class CascadeEvaluator(base_component.BaseComponent):
    """Evaluates the cascade of freshly trained models on `split` of the raw examples.

    It blesses nothing: each model has an evaluator of its own. Its verdict is about n₁ and n₂. Output: `evaluation`
    (cascade_evaluation.json, and scores.parquet, from which curves can be drawn again without scoring), a standard
    artifact.
    """

    SPEC_CLASS = CascadeEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(CascadeEvaluatorExecutor)

    def __init__(
        self, examples, behaviors, two_tower, ranker, section: CascadeSection, ranker_name: str, split: str, coarse=None
    ):
        super().__init__(
            CascadeEvaluatorSpec(
                examples=examples,
                behaviors=behaviors,
                two_tower=two_tower,
                ranker=ranker,
                coarse=coarse,
                cascade_config=section.model_dump_json(),
                ranker_name=ranker_name,
                split=split,
                evaluation=types.Channel(type=ModelEvaluation),
            )
        )
