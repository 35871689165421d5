"""Interests of a candidate's user as fields of a ranker: the short history by DIN, the long one by SDIM."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from features.items.signatures import ItemSignatures
from features.items.simhash import SimHash
from models.embedding import FeatureEmbedding
from models.inputs.history_windows import TIME_GAP, trim_window
from models.sdim import buckets as sdim
from models.sdim.config import HistoryConfig
from models.sdim.recency import Recency
from models.sdim.request_layout import RequestLayout
from models.sdim.target_attention import DinAttention, DotProductAttention, mean_pooling
from models.sdim.unsigned_field import UnsignedField


class Behaviors(NamedTuple):
    """A window's behaviours.

    Attributes:
      values: [B, L, d_h], embeddings of their items alone: what is signed, and what an interest is made of.
      keys: [B, L, d_h], the same with their recency: what candidates are compared with.
      bias: [B, L], the logarithm of the weight that their recency gives them.
      mask: [B, L], 1 for behaviours and 0 for padding.
      item_row: [B, L] int32 rows of the catalogue, or None.
    """

    values: tf.Tensor
    keys: tf.Tensor
    bias: tf.Tensor
    mask: tf.Tensor
    item_row: tf.Tensor | None


class HistoryInterest(tf.keras.layers.Layer):
    """One field a window: what the history says about the candidate (SDIM, arXiv 2205.10249, section 3.1).

    A behaviour is the concatenation of its features' embeddings, `[d_h]`; so is a candidate, from the same table.
    Recency (`models.sdim.recency`) is part of what candidates attend to, and weighs behaviours; the interest is made of
    items alone: what is added up over a history would else say how long it is, and so how far the log has got. An
    interest u of candidate q becomes the field `W [u, u ⊙ q / |q|]`: u alone says what the history holds, the product
    how much of it is like the candidate. No behaviours, no interest: the field is exactly 0. Where signatures are
    looked up, candidates lose theirs at random in training, and the long field of one without a signature is
    `UnsignedField`; at a rate of 0, where that would never be trained, it is 0.

    Args:
      embedding: the ranker's embedding, shared with the candidates.
      encoding: the feature encoding.
      config: which attention.
      item_signatures: of the catalogue; needed for `sdim` with signatures of `two_tower`.

    Raises:
      ValueError: if the spec has no history, a history feature is excluded, or signatures are missing.
    """

    def __init__(
        self,
        embedding: FeatureEmbedding,
        encoding: FeatureEncoding,
        config: HistoryConfig,
        item_signatures: ItemSignatures | None = None,
        name: str = "history_interest",
    ):
        super().__init__(name=name)
        self.config = config
        self._embedding = embedding
        self.features = _history_features(embedding, encoding, config)
        self.dim = embedding.embedding_dim * len(self.features)
        self.windows = tuple(w for w in ("short", "long") if getattr(config, w) != "none")
        self.field_names = tuple(f"{window}_history" for window in self.windows)
        self._attention = {w: self._make_attention(w) for w in self.windows if getattr(config, w) != "sdim"}
        self._projections = {
            w: tf.keras.layers.Dense(embedding.embedding_dim, use_bias=False, name=f"{w}_field") for w in self.windows
        }
        recency = {}
        for window in self.windows:
            gaps, ranks = self.uses_times, config.recency != "none" and not self._by_table(window)
            if gaps or ranks:
                compared = getattr(config, window) not in ("mean", "sdim")
                recency[window] = Recency(self.dim if compared else None, gaps, ranks, name=f"{window}_recency")
        self._recency = recency
        self._newer = {"short": 0, "long": encoding.spec.history.short_length}
        self.simhash, self._signature_table, self._unsigned = None, None, None
        if config.long == "sdim" and config.signature_source == "two_tower":
            if item_signatures is None:
                raise ValueError(
                    "`signature_source`='two_tower' needs `item_signatures`: train the two-tower first (model "
                    "`two_tower` in the pipeline), or set `signature_source` to 'end_to_end'."
                )
            # A variable, so that checkpoints and exports carry it and graphs need not.
            self._signature_table = tf.Variable(item_signatures.table(), trainable=False, name="item_signatures")
            self.simhash_config = item_signatures.config
            if config.signature_dropout:
                self._unsigned = UnsignedField(embedding.embedding_dim, name="unsigned_field")
        elif config.long == "sdim":
            self.simhash_config = config.simhash
            self.simhash = SimHash(self.dim, config.simhash)

    @property
    def uses_table(self) -> bool:
        """Whether the long history may be given as a table of bucket sums."""
        return self.config.long == "sdim"

    @property
    def uses_times(self) -> bool:
        """Whether it asks for the times of requests and behaviours."""
        return self.config.recency == "gap_and_rank"

    @property
    def table_recency(self) -> Recency | None:
        """What weighs behaviours in a table by their age; None: all count alike."""
        return self.recency_of("long") if self.uses_table else None

    def recency_of(self, window: str) -> Recency | None:
        """What a window's behaviours get for their age; None: nothing."""
        return self._recency.get(window)

    @property
    def uses_item_rows(self) -> bool:
        """Whether behaviours and candidates are signed by their row in the catalogue."""
        return self._signature_table is not None

    @property
    def table_shape(self) -> tuple[int, int, int]:
        """Of one user's bucket sums: groups, buckets, d_h."""
        return self.simhash_config.num_groups, self.simhash_config.num_buckets, self.dim

    @property
    def table_weights(self) -> list[tf.Variable]:
        """What bucket sums depend on."""
        signatures = [self._signature_table] if self.uses_item_rows else []
        recency = self.table_recency.weights if self.table_recency is not None else []
        return [self._embedding.table, *signatures, *recency]

    def call(self, batch: dict, training: bool | None = None) -> tf.Tensor:
        """Returns the fields of a batch's candidates, `[N, len(field_names), d]`.

        `batch["history"]` holds the windows (docs/reference/data_formats.md); instead of `long` it may hold `long_sums`
        `[B, G, 2^tau, d_h]`, the users' bucket sums. `batch["item_signature"]`, `[N, G]` int32, may give candidates
        signatures that the catalogue lacks; -1 leaves them to it.
        """
        history, request_index = batch["history"], batch["request_index"]
        candidates = self.embed(batch["features"])
        sums = history.get("long_sums") if self.uses_table else None
        counted = sums if sums is not None else history[f"{self.windows[0]}_length"]
        layout = RequestLayout(request_index, counted.shape[0] or tf.shape(counted)[0])
        grid = layout.to_grid(candidates)
        fields = []
        for window in self.windows:
            if window in self._attention:
                found = self.behaviors(history, window)
                parts = (layout.to_rows(part) for part in (found.values, found.mask, found.keys, found.bias))
                interest = layout.to_flat(self._attention[window](grid, *parts))
            else:
                if sums is None:
                    sums = self._bucket_sums(history)
                signed = self._sign_candidates(candidates, batch, training)
                interest = sdim.look_up(sums, signed, request_index)
            match = interest * tf.math.l2_normalize(candidates, axis=-1)
            field = self._projections[window](tf.concat([interest, match], axis=-1))
            if window == "long" and self._unsigned is not None:
                field = tf.where(signed[:, :1] < 0, self._unsigned(sums, candidates, request_index), field)
            fields.append(field)
        return tf.stack(fields, axis=1)

    def embed(self, features: dict) -> tf.Tensor:
        """Embeds items as behaviours: `[…, d_h]` from ids by feature, as of `FeatureEmbedding.concatenated`."""
        return self._embedding.concatenated(self.features, features)

    def encode_behaviors(self, features: dict, item_row: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """What BSE adds up: embeddings `[T, d_h]` and signatures `[T, G]` of behaviours, -1 where there is none.

        Their weights by `table_recency` are not in it: a store embeds each item once, whenever it was met.
        """
        values = self.embed(features)
        return values, self._sign(values, item_row)

    def behaviors(self, history: dict, window: str) -> Behaviors:
        """Embeds a window's behaviours; L is the longest history's length: what pads all requests is cut off."""
        ids, present = trim_window(history, window)
        values = keys = self.embed(ids)
        mask = tf.cast(present, values.dtype)
        bias = tf.zeros_like(mask)
        if window in self._recency:
            rank = tf.range(tf.shape(present)[1], 0, -1) + self._newer[window]
            found = self._recency[window](ids.get(TIME_GAP), rank)
            keys, bias = values + found.offset, bias + found.bias
        return Behaviors(values, keys, bias, mask, ids.get("item_row"))

    def _by_table(self, window: str) -> bool:
        return getattr(self.config, window) == "sdim"

    def _bucket_sums(self, history: dict) -> tf.Tensor:
        found = self.behaviors(history, "long")
        signed = self._sign(found.values, found.item_row)
        known = (found.mask > 0) & (signed[..., 0] >= 0)
        values = found.values * tf.exp(found.bias)[..., tf.newaxis]
        return sdim.bucket_sums(values, signed, known, self.simhash_config.num_buckets)

    def _sign(self, values: tf.Tensor, item_row: tf.Tensor | None) -> tf.Tensor:
        if self._signature_table is None:
            return sdim.signatures(self.simhash, values)
        signed = tf.cast(tf.gather(self._signature_table, item_row), tf.int32)
        return tf.where(item_row[..., tf.newaxis] > 0, signed, -1)

    def _sign_candidates(self, candidates: tf.Tensor, batch: dict, training: bool | None) -> tf.Tensor:
        signed = self._sign(candidates, batch.get("item_row"))
        if "item_signature" in batch:
            given = batch["item_signature"]
            signed = tf.where(given[:, :1] < 0, signed, given)
        if training and self._unsigned is not None:
            lost = tf.random.uniform(tf.shape(signed)[:1]) < self.config.signature_dropout
            signed = tf.where(lost[:, tf.newaxis], -1, signed)
        return signed

    def _make_attention(self, window: str):
        kind = getattr(self.config, window)
        if kind == "din":
            return DinAttention(self.config.din_hidden_units, name=f"{window}_din")
        if kind == "mean":
            return mean_pooling
        return DotProductAttention(unit_vectors=kind == "cosine_attention", name=f"{window}_attention")


def _history_features(embedding: FeatureEmbedding, encoding: FeatureEncoding, config: HistoryConfig) -> tuple[str, ...]:
    spec = encoding.spec
    if spec.history is None:
        raise ValueError(f"`history` of the model needs a `history` in the spec. Spec `{spec.name}` has none.")
    names = config.features
    if names is None:
        names = tuple(name for name in spec.history.features if name in embedding.field_names)
    for name in names:
        if name not in spec.history.features or name not in embedding.field_names:
            raise ValueError(
                f"history feature `{name}` must be among the spec's `history.features` and not excluded from the model."
            )
    if not names:
        raise ValueError("the model excludes every history feature: it has nothing to read histories by.")
    return names
