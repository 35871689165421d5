"""The SSL two-tower: users and items in one space, for retrieval.

Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021, arXiv 2007.12865. Equations, the
masking and what the paper leaves open: docs/models/two_tower.md.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from features.encoding.feature_encoding import FeatureEncoding
from features.items.config import Estimate
from features.items.mutual_information import MutualInformation
from models.embedding import flatten_fields
from models.inputs.item_corpus import ItemCorpus
from models.masked_embedding import MaskedFeatureEmbedding
from models.two_tower.config import TwoTowerConfig
from models.two_tower.contrastive_loss import info_nce, spread_out
from models.two_tower.feature_masking import (
    correlated_masks,
    draw_correlated_mask,
    draw_random_mask,
)
from models.two_tower.short_history import ShortHistory

_EMBED_BATCH = 4096


class TwoTower(tfrs.Model):
    """`score(q, x) = cos(query tower(q), item tower(x))`; embeddings have unit length.

    The query tower reads the features of scope `request` and the short history, the item tower all features of `items`;
    histories are embedded by the item tower's tables. L = L_main + α L_self: L_main is the softmax over the items of
    the batch, `cos / τ - log Q`, items that a request took not being its negatives; L_self (no correction) is on items
    sampled uniformly from the corpus. The item tower is shared by both tasks and both views.

    Batches hold positives only, with histories (`make_dataset(…, histories=True, positives_only=True)`).

    Args:
      encoding: the feature encoding.
      corpus: the catalogue; SSL samples it, and the index holds it.
      config: what to build.
      train_counts: [n] how often each item was a positive in train (`count_positives`); for `log_q`.
      mutual_information: of the item features; for `cfm`.

    Raises:
      ValueError: if something that the config needs is missing.
    """

    def __init__(
        self,
        encoding: FeatureEncoding,
        corpus: ItemCorpus,
        config: TwoTowerConfig | None = None,
        *,
        train_counts: np.ndarray | None = None,
        mutual_information: MutualInformation | None = None,
        name: str = "two_tower",
    ):
        super().__init__(name=name)
        self.config = config = config or TwoTowerConfig()
        ssl = config.ssl
        self.corpus = corpus
        self.embedding = MaskedFeatureEmbedding(encoding, config.exclude_features, maskable=ssl.masks_features)
        self.embedding.build(None)  # its parts are called, never the whole
        self.item_features, self.request_features = self.embedding.item_features, self.embedding.request_features
        self.short_history = None
        if config.history != "none":
            self.short_history = ShortHistory(self.embedding, encoding, config.history)
        if not self.item_features or not (self.request_features or self.short_history):
            raise ValueError("a two-tower needs features of `items`, and features of requests or a history.")
        self.query_tower = _tower(config, "query_tower")
        self.item_tower = _tower(config, "item_tower")
        self.retrieval = tfrs.tasks.Retrieval(
            loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
            remove_accidental_hits=True,
        )
        self._log_q = None
        if config.log_q == "counted":
            if train_counts is None or len(train_counts) != len(corpus):
                raise ValueError("`log_q`='counted' needs `train_counts`, one count for each item of the corpus.")
            counts = np.maximum(train_counts, 1).astype(np.float64)
            # Logarithms in float64: the quotient of a rare item of a large log is below what TFRS lets pass.
            self._log_q = tf.constant(np.log(counts) - np.log(counts.sum()), tf.float32)
        self._maskable = tuple(n for n in self.item_features if ssl.item_id == "feature" or n != "item_id")
        self._masks = None
        if ssl.method == "cfm":
            self._masks = tf.constant(correlated_masks(_relatives(mutual_information, self._maskable, ssl.estimate)))
        elif ssl.method == "rfm":
            draw_random_mask(len(self._maskable))  # too few features are refused here, not in the first step
        self.log_loss = tf.keras.metrics.Mean("log_loss")
        self.ssl_loss = tf.keras.metrics.Mean("ssl_loss")

    def call(self, batch: dict, training: bool = False) -> tf.Tensor:
        """Returns `cos / τ` of each candidate and its request, `[N]`."""
        queries = tf.gather(self.embed_queries(batch), batch["request_index"])
        return tf.reduce_sum(queries * self.embed_items(batch["features"]), axis=1) / self.config.temperature

    def score_items(self, batch: dict, items: dict) -> tf.Tensor:
        """Returns `cos / τ` of n items, by their encoded features, and each of a batch's B requests, `[B, n]`."""
        cosines = tf.matmul(self.embed_queries(batch), self.embed_items(items), transpose_b=True)
        return cosines / self.config.temperature

    def embed_queries(self, batch: dict) -> tf.Tensor:
        """Embeds the requests of a batch: `[B, output_dim]` of unit length."""
        parts = []
        if self.request_features:
            parts.append(flatten_fields(self.embedding.request_fields(batch["features"])))
        if self.short_history is not None:
            parts.append(self.short_history(batch["history"]))
        return tf.math.l2_normalize(self.query_tower(tf.concat(parts, axis=1)), axis=1)

    def embed_items(self, features: dict, masked: tf.Tensor | None = None, dropout_rate: float = 0.0) -> tf.Tensor:
        """Embeds items: `[n, output_dim]` of unit length; arguments of `MaskedFeatureEmbedding.item_fields`."""
        fields = self.embedding.item_fields(features, masked, dropout_rate)
        return tf.math.l2_normalize(self.item_tower(flatten_fields(fields)), axis=1)

    @property
    def reads_ids(self) -> bool:
        """Whether items are embedded by their ids beside other features."""
        return "item_id" in self.item_features and len(self.item_features) > 1

    def embed_anonymous(self, features: dict) -> tf.Tensor:
        """Embeds items `[n, output_dim]` by all features but the id, which is masked as SSL masks features.

        An item that nobody has seen is embedded as it will be when it is known. Without SSL the id is a missing one.
        """
        first = next(values for name, values in features.items() if name != "item_id")
        count = first.nrows(tf.int32) if isinstance(first, tf.RaggedTensor) else tf.shape(first)[0]
        masked = [name == "item_id" for name in self.item_features] if self.embedding.maskable else None
        return self.embed_items({**features, "item_id": tf.zeros([count], tf.int32)}, masked)

    def embed_corpus(self, with_ids: bool = True) -> np.ndarray:
        """Embeds the catalogue, [n, output_dim] float32 in its order; without ids by `embed_anonymous`."""
        starts = range(0, len(self.corpus), _EMBED_BATCH)
        return np.concatenate([self._embed_rows(tf.constant(start), with_ids).numpy() for start in starts])

    def compute_loss(self, inputs: dict, training: bool = False) -> tf.Tensor:
        """Returns L of a batch of positives in nats; `log_loss` averages L_main over positives."""
        main = self.main_loss(inputs, training)
        self.log_loss.update_state(main, sample_weight=tf.cast(tf.size(inputs["item_row"]), tf.float32))
        if not training or self.config.ssl.method in ("none", "feature_dropout"):
            return main
        contrastive = self.contrastive_loss(self.corpus.sample(self.config.ssl.items))
        self.ssl_loss.update_state(contrastive)
        return main + self.config.ssl.alpha * contrastive

    def main_loss(self, batch: dict, training: bool = False) -> tf.Tensor:
        """L_main: the mean over positives of the softmax's log loss."""
        index, rows, masked = batch["request_index"], batch["item_row"], None
        if training and self.config.ssl.method == "feature_dropout":
            shape = [tf.size(rows), len(self.item_features)]
            masked = tf.random.uniform(shape) < self.config.ssl.dropout_rate
        own = tf.eye(tf.size(rows), dtype=tf.bool)
        queries = tf.gather(self.embed_queries(batch), index) / self.config.temperature
        items = self.embed_items(batch["features"], masked)
        if self._log_q is not None:
            # One more coordinate, so that a product is `cos / τ - log Q`. TFRS itself would correct by probabilities,
            # clipped at 1e-6: in a log of 10^8 takes all items with under a hundred would count alike.
            queries = tf.concat([queries, tf.ones_like(queries[:, :1])], axis=1)
            items = tf.concat([items, -tf.gather(self._log_q, rows - 1)[:, tf.newaxis]], axis=1)
        return self._softmax_loss(queries, items, candidate_ids=rows, score_mask=own | (index[:, tf.newaxis] != index))

    @tf.function(reduce_retracing=True)
    def _softmax_loss(self, queries, items, **options) -> tf.Tensor:
        # A function of its own: TFRS's task relies on AutoGraph, which the training step is traced without.
        return self.retrieval(queries, items, compute_metrics=False, **options)

    def contrastive_loss(self, items: tf.Tensor) -> tf.Tensor:
        """L_self of items by index, [n]; the views are drawn anew."""
        ssl, features = self.config.ssl, self.corpus.gather(items)
        temperature = ssl.temperature or self.config.temperature
        if ssl.method == "spread_out":
            return spread_out(self.embed_items(features), temperature)
        first, second = (self.embed_items(features, mask, ssl.dropout_rate) for mask in self.draw_views())
        return info_nce(first, second, temperature)

    def draw_views(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws what the views h and g mask, [k] bool each, in the order of `item_features`."""
        k = len(self._maskable)
        drawn = draw_random_mask(k) if self._masks is None else draw_correlated_mask(self._masks)
        if k == len(self.item_features):
            return drawn, ~drawn
        place = [self._maskable.index(n) if n in self._maskable else -1 for n in self.item_features]
        fixed = tf.constant([p < 0 for p in place])
        of_all = tf.gather(drawn, [max(p, 0) for p in place])
        return of_all | fixed, ~of_all | fixed

    @tf.function(autograph=False)
    def predict_next(self, batches: tf.data.Iterator) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns of the next batch: its positives' queries `[P, output_dim]`, item rows `[P]` and L_main.

        Raises `tf.errors.OutOfRangeError` after the last.
        """
        batch = next(batches)
        queries = tf.gather(self.embed_queries(batch), batch["request_index"])
        return queries, batch["item_row"], self.main_loss(batch)

    @tf.function(autograph=False)
    def _embed_rows(self, start: tf.Tensor, with_ids: bool) -> tf.Tensor:
        rows = tf.range(start, tf.minimum(start + _EMBED_BATCH, len(self.corpus)))
        return (self.embed_items if with_ids else self.embed_anonymous)(self.corpus.gather(rows))


def _relatives(found: MutualInformation | None, names: tuple[str, ...], estimate: Estimate) -> np.ndarray:
    """The estimate of the named features, [k, k]."""
    if found is None:
        raise ValueError("`ssl.method`='cfm' needs `mutual_information` of the item features.")
    absent = [name for name in names if name not in found.features]
    if absent:
        raise ValueError(f"`mutual_information` does not know the item features {absent}: estimate it again.")
    order = [found.features.index(name) for name in names]
    return found.matrix(estimate)[np.ix_(order, order)]


def _tower(config: TwoTowerConfig, name: str) -> tf.keras.Sequential:
    hidden = [tf.keras.layers.Dense(width, activation="relu") for width in config.hidden_units]
    return tf.keras.Sequential([*hidden, tf.keras.layers.Dense(config.output_dim)], name=name)
