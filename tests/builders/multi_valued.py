"""Models of every kind over the small log with a history feature of several values, their exports, and a reference."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import tensorflow as tf

from features.items.signatures import sign_items
from models.inputs.input_pipeline import count_positives
from models.inputs.item_corpus import ItemCorpus
from pipeline.model_kinds import STAGES, kind_of, load
from serving.offline.scoring import score_examples
from serving.saved.ranker import SavedRanker
from serving.saved.two_tower import SavedTwoTower
from tests.builders import small_log as small

SPEC = small.MULTI_VALUED
SIZES = {"num_layers": 1, "head_dim": 8}
EXPERTS = {"num_experts": 3, "expert_units": [16], "gate_units": 8}
AGELESS = {"recency": "none"}  # what ages do is tested elsewhere; the reference knows none
MODELS = {
    "two_tower": ("two_tower", {"hidden_units": [16], "output_dim": 8}),
    "hcn": ("hcn", {"dim": 16, "hidden_units": [16], "num_layers": 2, "long_length": 2, "features": ["title"]}),
    "target": ("autoint", {**SIZES, "history": {**AGELESS, "short": "din", "long": "target_attention"}}),
    "sdim": (
        "autoint",
        {**SIZES, "history": {**AGELESS, "short": "target_attention", "signature_source": "end_to_end"}},
    ),
    "aw_moe": ("aw_moe", {**EXPERTS, "history": {**AGELESS, "short": "mean", "signature_dropout": 0}}),
}
#: Of the catalogue: without one, an item's behaviours are in no table.
SIGNATURES = sign_items(
    small.raw_catalogue()["item_id"].combine_chunks(), np.random.default_rng(1).normal(size=(small.CATALOGUE_ITEMS, 8))
)


def make(log, kind, parameters):
    """A model at random weights of a size at which everything counts, and what its export is given."""
    config, corpus = load(kind_of(kind).config).model_validate(parameters), ItemCorpus.load(log.encoded, log.encoding)
    tf.keras.utils.set_random_seed(3)
    build, given = load(kind_of(kind).model), {}
    if kind == "two_tower":
        counts = count_positives(log.encoded, "train", "click", len(corpus))
        model = build(log.encoding, corpus, config, train_counts=counts)
    elif kind == "hcn":
        model, given = build(log.encoding, config), {"corpus": corpus}
    else:
        given = {"item_signatures": SIGNATURES}
        model = build(log.encoding, config, **given)
    model(log.batch)
    for weight in model.trainable_weights:
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.3))
    return model, given


class Exported:
    """A model of `MODELS`, its export, and what is made of that only once."""

    def __init__(self, log, name, directory):
        self.log, self.name, self.directory = log, name, directory
        self.model, given = make(log, *MODELS[name])
        export = load(STAGES[kind_of(MODELS[name][0]).stage].exporter)
        export(self.model, log.encoding, directory, warmup_rows=log.rows.slice(0, 3), **given)

    @cached_property
    def saved(self):
        return (SavedTwoTower if self.name == "two_tower" else SavedRanker)(self.directory)

    @cached_property
    def scores(self) -> np.ndarray:
        """By the joint graph, of all candidates of eval."""
        log = self.log
        found = score_examples(self.directory, log.raw, "eval", behaviors_dir=log.raw / "behaviors", batch_requests=7)
        return found["score"].to_numpy()


class Reference:
    """Embeds raw values by definition, from the terms of the encoding and a model's table."""

    def __init__(self, log, embedding):
        self._table, self._offsets = embedding.table.numpy(), embedding._offsets
        self._terms = {n: log.encoding.terms(n).to_pylist() for n in SPEC.history.features}

    def value(self, name, value):
        if value is None or value == "":
            return None
        terms = self._terms[name]
        return self._table[self._offsets[name] + (2 + terms.index(value) if value in terms else 1)]

    def feature(self, name, value):
        values = value if SPEC[name].multi_valued else [value]
        found = [row for row in (self.value(name, each) for each in values or ()) if row is not None]
        return np.mean(found, axis=0) if found else np.zeros(self._table.shape[1], np.float32)

    def items(self, names, columns):
        """[n, d_h] of n items given by their raw columns."""
        rows = zip(*(columns[name] for name in names), strict=True)
        vectors = [np.concatenate([self.feature(*each) for each in zip(names, row, strict=True)]) for row in rows]
        return np.array(vectors, np.float32).reshape(-1, len(names) * self._table.shape[1])

    def window(self, names, row, window):
        return self.items(names, {name: row[f"{window}_{name}"] for name in names})
