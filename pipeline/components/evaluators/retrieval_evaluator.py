"""RetrievalEvaluator: judges a trained two-tower on held-out takes, beside popularity and the model that serves now."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, component_spec
from tfx.types.standard_artifacts import Model

from evaluation.baselines import count_items
from evaluation.metrics.takes import Takes
from evaluation.retrieval import RecallComparison, RetrievalEvaluationConfig, evaluate_retrieval
from features import storage
from features.items.catalogue import item_rows
from pipeline.components.evaluators.evaluator import (
    Evaluator,
    EvaluatorSpec,
    mark_blessing,
    scored_beside,
    serving_path,
    with_versions,
)


class RetrievalEvaluatorSpec(EvaluatorSpec):
    """Interface of RetrievalEvaluator: of a model that is taught also its teacher, and a two-tower that is not."""

    INPUTS = {
        **EvaluatorSpec.INPUTS,
        "teacher": component_spec.ChannelParameter(type=Model, optional=True),
        "two_tower": component_spec.ChannelParameter(type=Model, optional=True),
    }


class RetrievalEvaluatorExecutor(base_executor.BaseExecutor):
    """Embeds the takes of the split with the exported SavedModel, evaluates, and writes the standard artifacts."""

    def Do(self, input_dict, output_dict, exec_properties):
        config = RetrievalEvaluationConfig.model_validate_json(exec_properties["evaluation_config"])
        examples, behaviors, model = (
            artifact_utils.get_single_instance(input_dict[name]) for name in ("examples", "behaviors", "model")
        )
        label, live, anchor = (exec_properties[name] for name in ("label", "live_model", "anchor_model"))
        log = (examples.uri, behaviors.uri, exec_properties["split"])

        def takes_of(saved_model: str) -> "_Embedded":
            return _Embedded(saved_model, *log)

        judged, others = {"model": takes_of(serving_path(input_dict))}, {}
        for who, path in (("live", live), ("anchor", anchor if anchor != live else "")):
            judged[who], others[who] = scored_beside(who, path, label, takes_of)
        judged = {name: each for name, each in judged.items() if each is not None}
        takes = {name: each.takes() for name, each in judged.items()}
        lists = None
        if input_dict.get("teacher"):
            lists = _teacher_lists(judged, *(serving_path(input_dict, name) for name in TAUGHT_BY), *log, config)
        counts = count_items(examples.uri, label).clicks_of(judged["model"].item_ids)
        beside = {"live": takes.get("live"), "anchor": takes.get("anchor"), "unscored": others["live"]}
        result = evaluate_retrieval(takes["model"], counts, config, **beside, taught=lists)
        unscored_anchor = RecallComparison(unscored=others["anchor"]) if others["anchor"] else None
        result = with_versions(result, live, anchor, "live_comparison", unscored_anchor)
        result.save(artifact_utils.get_single_instance(output_dict["evaluation"]).uri)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        mark_blessing(blessing, result, model, live, exec_properties.get("override", ""))


TAUGHT_BY = ("teacher", "two_tower")


class _Embedded:
    """An exported two-tower on a split: its corpus, and what it embeds."""

    def __init__(self, saved_model: str, examples_dir: str, behaviors_dir: str, split: str):
        from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
        from serving.saved.two_tower import SavedTwoTower

        self._behaviors_dir, self._tower = behaviors_dir, SavedTwoTower(saved_model)
        self.item_ids, self._items = read_item_embeddings(storage.join(saved_model, ITEM_EMBEDDINGS_FILE))
        self._embedded = self._tower.embed_takes(examples_dir, behaviors_dir, split)

    def takes(self) -> Takes:
        """The takes of the split."""
        return self._takes(*self._embedded)

    def lists(self, taught) -> Takes:
        """The items of the teacher's lists, each with its request."""
        queries = self._tower.embed_drawn(taught.requests, self._behaviors_dir)
        each = np.repeat(np.arange(len(queries)), taught.top)
        return self._takes(queries[each], taught.item_ids, taught.user_ids.take(pa.array(each)))

    def _takes(self, queries: np.ndarray, wanted: pa.Array, users: pa.Array) -> Takes:
        # As text: a live model's ids may be of the other type.
        ids = self.item_ids.cast(pa.string())
        taken = item_rows(ids, wanted.cast(pa.string())).astype(np.int64) - 1
        return Takes(queries, self._items, taken, ids, pc.dictionary_encode(users).indices.to_numpy())


def _teacher_lists(
    judged: dict[str, _Embedded],
    teacher: str,
    two_tower: str,
    examples_dir: str,
    behaviors_dir: str,
    split: str,
    config: RetrievalEvaluationConfig,
) -> dict[str, Takes]:
    """What the teacher lists for drawn requests of the split, as the models see it, and one that was not taught."""
    from serving.offline.teacher_scoring import list_best_items

    count, top, seed = config.taught_requests, config.teacher_list, config.seed
    taught = list_best_items(examples_dir, behaviors_dir, split, teacher, count, top, seed)
    judged = judged | {"two_tower": _Embedded(two_tower, examples_dir, behaviors_dir, split)}
    return {name: each.lists(taught) for name, each in judged.items()}


class RetrievalEvaluator(Evaluator):
    """Evaluates a two-tower on `split` of the raw examples and blesses it if it passes every gate.

    Outputs: `evaluation` (retrieval_evaluation.json) and `blessing`, both standard artifacts. A model that is taught is
    judged by what it finds of the lists of its `teacher`, beside `two_tower`, which learns from takes.
    """

    SPEC_CLASS = RetrievalEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RetrievalEvaluatorExecutor)
