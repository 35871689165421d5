"""RankingEvaluator: judges a trained ranker on held-out requests, beside the model that serves now."""

import pyarrow as pa
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, component_spec

from evaluation.baselines import Baseline, ItemCounts, count_items, oracle
from evaluation.ranking import KEY_COLUMNS, EvaluationConfig, evaluate
from evaluation.results import LiveComparison
from evaluation.slices import HISTORY_LENGTH, SIGNED_ITEM
from features import storage
from features.arrow import write_parquet
from pipeline.components.evaluators.evaluator import (
    Evaluator,
    EvaluatorSpec,
    mark_blessing,
    scored_beside,
    serving_path,
    with_versions,
)

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
        label, split = exec_properties["label"], exec_properties["split"]
        live, anchor = exec_properties["live_model"], exec_properties["anchor_model"]
        behaviors = artifact_utils.get_single_instance(input_dict["behaviors"]).uri

        def scores(saved_model: str, columns: tuple[str, ...] = ()) -> pa.Table:
            return score_examples(saved_model, examples.uri, split, columns, behaviors_dir=behaviors)

        scored = scores(serving_path(input_dict), slice_columns(config))
        live_scored, unscored = scored_beside("live", live, label, scores)
        anchor_scored, lost = scored_beside("anchor", anchor if anchor != live else "", label, scores)
        baselines = _baselines(scored, count_items(examples.uri, label), exec_properties["truth"])
        beside = {"live_predictions": live_scored, "anchor_predictions": anchor_scored, "unscored": unscored}
        result = evaluate(scored, config, baselines=baselines, **beside)
        unscored_anchor = LiveComparison(rows=0, metrics={}, unscored=lost) if lost else None
        result = with_versions(result, live, anchor, "live", unscored_anchor)
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        result.save(evaluation.uri)
        write_predictions(storage.join(evaluation.uri, PREDICTIONS_FILE), scored, live_scored)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        mark_blessing(blessing, result, model, live, exec_properties.get("override", ""))


class RankingEvaluator(Evaluator):
    """Evaluates a ranker on `split` of the raw examples and blesses it if it passes every gate.

    Outputs: `evaluation` (evaluation.json and predictions.parquet) and `blessing`, both standard artifacts. Beside the
    model stand popularity, the items' click rates and, on a simulated log, the oracle; the live model and the anchor
    are scored on the same rows.
    """

    SPEC_CLASS = RankingEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RankingEvaluatorExecutor)


def _baselines(scored: pa.Table, items: ItemCounts, truth: str) -> list[Baseline]:
    """Popularity and click rates, and the oracle where there is a folder of the truth."""
    ids = scored["item_id"]
    oracles = [oracle(scored, truth)] if truth and storage.is_folder(truth) else []
    return [items.popularity(ids), items.click_rate(ids), *oracles]


def slice_columns(config: EvaluationConfig) -> tuple[str, ...]:
    """The features whose raw values must stand beside the scores for the declared slices."""
    computed = (HISTORY_LENGTH, SIGNED_ITEM, *KEY_COLUMNS)
    return tuple(name for name in config.slices.features if name not in computed)


def write_predictions(path: str, scored: pa.Table, live: pa.Table | None) -> None:
    """Keeps the scored rows, with the live model's score beside, for later questions."""
    if live is not None:
        scored = scored.append_column("live_score", live.column("score"))
    write_parquet(scored, path)
