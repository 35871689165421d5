"""HCN: the coarse ranker. Several interests a user, computed once a request, against item vectors computed in advance.

Yuan et al., "Hierarchical Multi-Interest Co-Network For Coarse-Grained Ranking", arXiv 2210.10547. Only its abstract is
public here: what is below is a reconstruction that satisfies it, every choice an argument with its reason
(docs/models/hcn.md).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from models.embedding import flatten_fields
from models.hcn.co_interest import CoInterest
from models.hcn.config import HcnConfig, Scoring
from models.hcn.interest_extractor import (
    HierarchicalExtractor,
    Interests,
    SelfAttentiveExtractor,
    layer_normalization,
)
from models.hcn.interest_scoring import redundancy, score_interests
from models.inputs.history_windows import trim_window
from models.inputs.item_corpus import ItemCorpus
from models.masked_embedding import MaskedFeatureEmbedding
from models.ranking_model import RankingModel
from models.sdim.recency import Recency

_EMBED_BATCH = 4096


class Hcn(RankingModel):
    """`logit = a · score(U_1 · e, …, U_K · e) + b`: interests U of the request, vector e of the item.

    Neither side sees the other: `user_interests` runs once a request, `embed_items` once an item. Batches are those of
    `make_dataset(…, histories=True)`; with `weight`, `source` and `teacher_logit` where CoarseExamples made them.

    A user has as many valid interests as found behaviours of their own; without behaviours, one: a learnt vector. Each
    gets the request features' vector added. Empty ones are 0 and not scored.

    Args:
      encoding: the feature encoding; its spec must have a `history`.
      config: what to build.

    Raises:
      ValueError: if the spec has no history, or the model would have nothing to read.
    """

    def __init__(self, encoding: FeatureEncoding, config: HcnConfig | None = None, name: str = "hcn"):
        super().__init__(name=name)
        self.config = config = config or HcnConfig()
        self.embedding = MaskedFeatureEmbedding(encoding, config.exclude_features, maskable=False)
        self.embedding.build(None)  # its parts are called, never the whole
        self.history_features = _history_features(self.embedding, encoding, config)
        self.item_features = self.embedding.item_features
        self.request_features = self.embedding.request_features if config.request_features else ()
        self._short_length = encoding.spec.history.short_length
        self._behavior = tf.keras.layers.Dense(config.dim, use_bias=False, name="behavior")
        # Embeddings start small: beside the prototypes they would change nothing for long.
        self._behavior_norm = layer_normalization("behavior_norm")
        self._recency = Recency(config.dim, gaps=False, weighs=False) if config.recency else None
        apart = config.windows == "apart"
        first = self._make_extractor("joined" if not apart else "both" if config.share_windows else "short")
        self._extractors = {"short": first, "long": first}
        if apart and not config.share_windows:
            self._extractors["long"] = self._make_extractor("long")
        self.co_interest = CoInterest(config.dim) if apart else None
        self._interest = tf.keras.layers.Dense(config.dim, name="interest")
        self._without_behaviors = tf.Variable(tf.zeros([config.dim]), name="without_behaviors")
        self._request_tower = _tower(config, "request_tower") if self.request_features else None
        self._item_tower = _tower(config, "item_tower")
        self._scale = tf.Variable(1.0, name="scale")
        self._bias = tf.Variable(0.0, name="bias")
        # A layer, so that it can be frozen where nothing unshown is learnt from.
        self.unshown_shift = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="unshown_shift")
        self.unshown_shift.build((None, 1))
        self.distillation_loss = tf.keras.metrics.Mean("distillation_loss")
        self.diversity_loss = tf.keras.metrics.Mean("diversity_loss")

    def _make_extractor(self, name: str):
        config = self.config
        if config.extractor == "hierarchical":
            return HierarchicalExtractor(
                config.num_interests,
                config.dim,
                config.num_layers,
                config.share_layers,
                config.sharpness,
                config.routing,
                name=f"{name}_extractor",
            )
        count = config.num_interests if config.extractor == "comirec_sa" else 1
        return SelfAttentiveExtractor(count, config.dim, config.attention_units, name=f"{name}_extractor")

    def call(self, batch: dict, training: bool | None = None, scoring: Scoring | None = None) -> tf.Tensor:
        """Returns logits `[N]` of a batch of N candidates; `scoring` is the config's for training or serving."""
        scoring = scoring or (self.config.training_scoring if training else self.config.scoring)
        return self._scores(*self._products(batch, *self.user_interests(batch)), scoring)

    def user_interests(self, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the interests of a batch's requests, `[B, K, d]`, and which are not empty, `[B, K]` bool.

        Reads request features and histories of the batch alone.
        """
        return self._with_request(batch, *self.history_interests(batch["history"]))

    def history_interests(self, history: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what `user_interests` does, of histories alone: without the vector that all interests share."""
        if self.co_interest is None:
            parts = [self._behaviors(history, window) for window in ("long", "short")]
            behaviors, mask = (tf.concat(pair, axis=1) for pair in zip(*parts, strict=True))
            found = self._extractors["short"](behaviors, mask)
            centres, valid = found.centres, found.valid
        else:
            centres, valid = self.co_interest(*(self.extract(history, window) for window in ("short", "long")))
        interests = self._interest(centres)
        nobody = tf.logical_not(tf.reduce_any(valid, axis=1))[:, tf.newaxis]
        first = tf.range(interests.shape[1]) == 0
        interests = tf.where(nobody[..., tf.newaxis], self._without_behaviors, interests)
        valid = tf.where(nobody, first, valid)
        return interests * tf.cast(valid, interests.dtype)[..., tf.newaxis], valid

    def extract(self, history: dict, window: str) -> Interests:
        """Returns the centres of one window, `short` or `long`, before they meet those of the other."""
        return self._extractors[window](*self._behaviors(history, window))

    def trace(self, history: dict, window: str) -> list[Interests]:
        """Returns the centres of one window after each layer of the hierarchical extractor, the prototypes first."""
        return self._extractors[window].trace(*self._behaviors(history, window))

    def embed_items(self, features: dict) -> tf.Tensor:
        """Embeds items: `[n, d]` of their encoded features."""
        fields = self.embedding.item_fields(features)
        return self._item_tower(flatten_fields(fields))

    def embed_corpus(self, corpus: ItemCorpus) -> np.ndarray:
        """Embeds a catalogue, [n, d] float32 in its order."""
        starts = range(0, len(corpus), _EMBED_BATCH)
        rows = [tf.range(start, min(start + _EMBED_BATCH, len(corpus))) for start in starts]
        return np.concatenate([self.embed_items(corpus.gather(part)).numpy() for part in rows])

    def logits_of(self, interests, valid, items, scoring: Scoring | None = None) -> tf.Tensor:
        """Returns logits `[B, n]` for the interests of B requests; `scoring` as of serving.

        The items are the same for all, `[n, d]`, or each request's own, `[B, n, d]`.
        """
        products = tf.einsum("bkd,nd->bnk" if len(items.shape) == 2 else "bkd,bnd->bnk", interests, items)
        return self._scores(products, valid[:, tf.newaxis], scoring or self.config.scoring)

    def score_items(self, batch: dict, items: dict) -> tf.Tensor:
        """Returns logits `[B, n]` of n items, by their encoded features, for each of a batch's B requests."""
        return self.logits_of(*self.user_interests(batch), self.embed_items(items), self.config.training_scoring)

    def compute_loss(self, inputs: dict, training: bool = False) -> tf.Tensor:
        """Returns the loss of a batch in nats: log loss, and what the config adds; `log_loss` averages the log loss."""
        return self._loss_and_products(inputs)[0]

    def _loss_and_products(self, inputs: dict) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        config = self.config
        interests, valid = self.history_interests(inputs["history"])
        products = self._products(inputs, *self._with_request(inputs, interests, valid))
        logits = self._scores(*products, config.training_scoring)
        unshown = tf.cast(inputs["source"] > 0, logits.dtype) if "source" in inputs else tf.zeros_like(logits)
        weights = inputs.get("weight", tf.ones_like(logits)) * (1.0 + unshown * (config.unshown_weight - 1.0))
        labelled = weights if config.unshown_labels == "negative" else weights * (1.0 - unshown)
        if "source" in inputs or "weight" in inputs:
            inputs = {**inputs, "weight": labelled}
        shift = tf.squeeze(self.unshown_shift(unshown[:, tf.newaxis]), axis=1)
        loss = self.ranking_loss(inputs, logits + shift)
        if config.distillation:
            if "teacher_logit" not in inputs:
                raise ValueError("`distillation` needs `teacher_logit` in the batches: give CoarseExamples a teacher.")
            taught = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(inputs["teacher_logit"]), logits)
            taught = tf.reduce_sum(weights * taught) / tf.reduce_sum(weights)
            self.distillation_loss.update_state(taught)
            loss += config.distillation * taught
        if config.diversity_weight:
            diversity = redundancy(interests, valid, config.diversity_margin)
            self.diversity_loss.update_state(diversity)
            loss += config.diversity_weight * diversity
        return loss, products

    @tf.function(autograph=False)
    def validate_next(self, batches: tf.data.Iterator) -> dict[str, tf.Tensor]:
        """Returns of the next batch: the `loss` that training minimises, and `source`, `label` and `logit`, `[N]` each.

        Raises `tf.errors.OutOfRangeError` after the last.
        """
        batch = next(batches)
        loss, products = self._loss_and_products(batch)
        source = batch.get("source", tf.zeros_like(batch["position"]))
        logits = self._scores(*products, self.config.scoring)
        return {"loss": loss, "source": source, "label": batch["label"], "logit": logits}

    def _behaviors(self, history: dict, window: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Embedded behaviours `[B, L, d]` of a window and their mask `[B, L]`."""
        longest = self.config.long_length if window == "long" else None
        ids, present = trim_window(history, window, longest)
        behaviors = self._behavior_norm(self._behavior(self.embedding.concatenated(self.history_features, ids)))
        if self._recency is not None:
            rank = tf.range(tf.shape(present)[1], 0, -1) + (self._short_length if window == "long" else 0)
            behaviors += self._recency(None, rank).offset
        return behaviors, tf.cast(present, behaviors.dtype)

    def _with_request(self, batch: dict, interests: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self._request_tower is None:
            return interests, valid
        fields = self.embedding.request_fields({name: batch["features"][name] for name in self.request_features})
        shared = self._request_tower(flatten_fields(fields))[:, tf.newaxis]
        return interests + shared * tf.cast(valid, interests.dtype)[..., tf.newaxis], valid

    def _products(self, batch: dict, interests: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Each candidate's products with its request's interests, `[N, K]`, and which of these are not empty."""
        items = self.embed_items({name: batch["features"][name] for name in self.item_features})
        index = batch["request_index"]
        return tf.einsum("nkd,nd->nk", tf.gather(interests, index), items), tf.gather(valid, index)

    def _scores(self, products: tf.Tensor, valid: tf.Tensor, scoring: Scoring) -> tf.Tensor:
        """Logits of products with interests; the interests are the last axis, which goes."""
        return self._scale * score_interests(products, valid, scoring, self.config.power) + self._bias


def _history_features(embedding: MaskedFeatureEmbedding, encoding: FeatureEncoding, config: HcnConfig):
    spec = encoding.spec
    if spec.history is None:
        raise ValueError(f"HCN reads histories: it needs a `history` in the spec. Spec `{spec.name}` has none.")
    usable = [name for name in spec.history.features if name in embedding.field_names]
    for name in config.features or ():
        if name not in usable:
            raise ValueError(
                f"history feature `{name}` must be among the spec's `history.features` and not excluded from the model."
            )
    names = config.features or tuple(usable)
    if not names:
        raise ValueError("the model excludes every history feature: it has nothing to read histories by.")
    return names


def _tower(config: HcnConfig, name: str) -> tf.keras.Sequential:
    hidden = [tf.keras.layers.Dense(width, activation="relu") for width in config.hidden_units]
    return tf.keras.Sequential([*hidden, tf.keras.layers.Dense(config.dim)], name=name)
