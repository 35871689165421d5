"""RankingEvaluator: judges a trained ranker on held-out requests, beside the model that serves now."""

import pyarrow as pa
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, component_spec

from evaluation.baselines import count_items, oracle
from evaluation.ranking import KEY_COLUMNS, EvaluationConfig, evaluate
from evaluation.slices import HISTORY_LENGTH, SIGNED_ITEM
from features import storage
from features.arrow import write_parquet
from pipeline.components.evaluators.evaluator import Evaluator, EvaluatorSpec, mark_blessing, serving_path

PREDICTIONS_FILE = "predictions.parquet"


class RankingEvaluatorSpec(EvaluatorSpec):
    """Interface of RankingEvaluator: `truth` is the folder of a simulated log's true click probabilities, or ''."""

    PARAMETERS = {**EvaluatorSpec.PARAMETERS, "truth": component_spec.ExecutionParameter(type=str)}


class RankingEvaluatorExecutor(base_executor.BaseExecutor):
    """Scores the split with the exported SavedModel, evaluates, and writes the standard artifacts."""

    def Do(self, input_dict, output_dict, exec_properties):
        from serving.offline.scoring import score_examples

        config = EvaluationConfig.model_validate_json(exec_properties["evaluation_config"])
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        split, live = exec_properties["split"], exec_properties["live_model"]

        behaviors = artifact_utils.get_single_instance(input_dict["behaviors"]).uri
        columns = slice_columns(config)
        scored = score_examples(serving_path(input_dict), examples.uri, split, columns, behaviors_dir=behaviors)
        live_scored = score_examples(live, examples.uri, split, behaviors_dir=behaviors) if live else None
        items = count_items(examples.uri, exec_properties["label"])
        baselines = [items.popularity(scored["item_id"]), items.click_rate(scored["item_id"])]
        truth = exec_properties["truth"]
        if truth and storage.is_folder(truth):
            baselines.append(oracle(scored, truth))
        result = evaluate(scored, config, live_predictions=live_scored, baselines=baselines)

        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        result.save(evaluation.uri)
        write_predictions(storage.join(evaluation.uri, PREDICTIONS_FILE), scored, live_scored)
        mark_blessing(artifact_utils.get_single_instance(output_dict["blessing"]), result, model, live)


class RankingEvaluator(Evaluator):
    """Evaluates a ranker on `split` of the raw examples and blesses it if it passes every gate.

    Outputs: `evaluation` (evaluation.json and predictions.parquet) and `blessing`, both standard artifacts. Beside the
    model stand popularity, the items' click rates and, on a simulated log, the oracle; none of them decides a gate.
    """

    SPEC_CLASS = RankingEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RankingEvaluatorExecutor)


def slice_columns(config: EvaluationConfig) -> tuple[str, ...]:
    """The features whose raw values must stand beside the scores for the declared slices."""
    computed = (HISTORY_LENGTH, SIGNED_ITEM, *KEY_COLUMNS)
    return tuple(name for name in config.slices.features if name not in computed)


def write_predictions(path: str, scored: pa.Table, live: pa.Table | None) -> None:
    """Keeps the scored rows, with the live model's score beside, for later questions."""
    if live is not None:
        scored = scored.append_column("live_score", live.column("score"))
    write_parquet(scored, path)
