"""RetrievalEvaluator: judges a trained two-tower on held-out takes, beside popularity and the model that serves now."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils

from evaluation.baselines import count_items
from evaluation.retrieval import RetrievalEvaluationConfig, Takes, evaluate_retrieval
from features import storage
from features.items.catalogue import item_rows
from pipeline.components.evaluators.evaluator import Evaluator, mark_blessing, serving_path


class RetrievalEvaluatorExecutor(base_executor.BaseExecutor):
    """Embeds the takes of the split with the exported SavedModel, evaluates, and writes the standard artifacts."""

    def Do(self, input_dict, output_dict, exec_properties):
        config = RetrievalEvaluationConfig.model_validate_json(exec_properties["evaluation_config"])
        examples, behaviors, model = (
            artifact_utils.get_single_instance(input_dict[name]) for name in ("examples", "behaviors", "model")
        )
        live = exec_properties["live_model"]
        judged = [_embedded(serving_path(input_dict), examples.uri, behaviors.uri, exec_properties["split"])]
        if live:
            judged.append(_embedded(live, examples.uri, behaviors.uri, exec_properties["split"]))
        # Judged are the takes of items that every model can find.
        rows = [item_rows(each.item_ids, each.taken_ids) for each in judged]
        known = np.logical_and.reduce([row > 0 for row in rows])
        takes = [
            Takes(each.queries[known], each.items, row[known].astype(np.int64) - 1)
            for each, row in zip(judged, rows, strict=True)
        ]
        counts = count_items(examples.uri, exec_properties["label"]).clicks_of(judged[0].item_ids)
        result = evaluate_retrieval(takes[0], counts, config, *takes[1:], unknown_takes=int((~known).sum()))

        result.save(artifact_utils.get_single_instance(output_dict["evaluation"]).uri)
        mark_blessing(artifact_utils.get_single_instance(output_dict["blessing"]), result, model, live)


class _Embedded(NamedTuple):
    """All takes of a split as one model embeds them, and its corpus."""

    queries: np.ndarray
    taken_ids: pa.Array
    item_ids: pa.Array
    items: np.ndarray


def _embedded(saved_model: str, examples_dir: str, behaviors_dir: str, split: str) -> _Embedded:
    from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
    from serving.saved.two_tower import SavedTwoTower

    item_ids, items = read_item_embeddings(storage.join(saved_model, ITEM_EMBEDDINGS_FILE))
    queries, taken = SavedTwoTower(saved_model).embed_takes(examples_dir, behaviors_dir, split)
    return _Embedded(queries, taken.cast(item_ids.type), item_ids, items)


class RetrievalEvaluator(Evaluator):
    """Evaluates a two-tower on `split` of the raw examples and blesses it if it passes every gate.

    Outputs: `evaluation` (retrieval_evaluation.json) and `blessing`, both standard artifacts.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RetrievalEvaluatorExecutor)
