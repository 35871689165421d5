"""What an exported model takes: names, dtypes and shapes of its inputs, marks of "no value", and of histories."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.config import Strict
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError
from features.histories.time_gaps import GAP_BOUNDS
from features.histories.windows import TIMESTAMP, WINDOWS, history_column
from features.items.signatures import ItemSignatures
from features.items.simhash import SimHashConfig
from features.spec import MISSING_INT64, Feature, FeatureSpec

#: Input of `rank_requests` beside the features: `[N]` int32, the request that each candidate belongs to.
REQUEST_INDEX = "request_index"

#: `[R]` int32, how many candidates each request of a served signature has; what stands behind them is padding.
NUM_CANDIDATES = "num_candidates"

#: `[R]` strings, the version of the ranker whose embeddings `long_sums` adds up (`HistoryInputs.version`).
TABLES_VERSION = "tables_version"

#: Output `[R]` bool: whether there was a long history, and one that this ranker can read.
LONG_HISTORY_USED = "long_history_used"

#: Output of `retrieve`, `[R]` int32: how many items were found for each request.
NUM_ITEMS = "num_items"

#: The first dimension of a warm-up request, at most; a server's `max_batch_size` must not be below it.
MAX_REQUESTS = 32

SERVING_DEFAULT = "serving_default"
#: The joint graph of training, for scoring offline. No signature: its inputs differ in their first dimension.
RANK_REQUESTS = "rank_requests"
USER_EMBEDDING = "user_embedding"
ITEM_EMBEDDING = "item_embedding"
ANONYMOUS_EMBEDDING = "anonymous_embedding"
RETRIEVE = "retrieve"
USER_INTERESTS = "user_interests"
COARSE_RANK = "coarse_rank"

#: Of rankers that attend over their fields: the inputs of `serving_default` to `attention` `[N, layers, H, M, M]`.
EXPLAIN = "explain"

#: Of rankers with draws of their last layer: the inputs of `serving_default` to `logit` `[R, N]` and `deviation`
#: `[R, N, M]`, what each draw adds to it.
DRAW_LOGITS = "draw_logits"

#: `[R, G, 2^tau, d]` float32: the raw bucket sums of each request's user (BSE).
LONG_SUMS = "long_sums"

#: `[T, …]` one row a behaviour: signs and embeds behaviours for BSE.
ENCODE_BEHAVIORS = "encode_behaviors"

#: `[n]` int32 buckets of `features.histories.time_gaps`: what behaviours of that age count in a bucket table.
GAP_WEIGHTS = "gap_weights"
#: Of rankers that look item signatures up: the inputs of `serving_default`, and `item_signature`.
RANK_SIGNED = "rank_signed"

#: `[R, N, G]` int32: signatures of candidates that the ranker's catalogue lacks; -1 leaves a candidate to it.
ITEM_SIGNATURE = "item_signature"

#: Where such an export keeps the signatures of its catalogue, inside the SavedModel.
SIGNATURES_FOLDER = "assets.extra"

#: Where an export says what it takes of histories, inside the SavedModel.
BSE_FILE = "assets.extra/bse.json"

#: Where an export keeps the spec of its features, inside the SavedModel.
SPEC_FILE = "assets.extra/feature_spec.json"

#: Where an export with the signature `explain` keeps the names of the M fields, a JSON list.
ATTENTION_FIELDS_FILE = "assets.extra/attention_fields.json"

#: The times of requests and behaviours as if they were a feature: UTC milliseconds.
TIME = Feature(name=TIMESTAMP, table="impressions", kind="numeric", dtype="int64")

_NUMPY_DTYPES = {"string": np.dtype(object), "int64": np.dtype(np.int64), "float64": np.dtype(np.float64)}
_ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
#: What stands for "no value" in a tensor, by the dtype's name.
MISSING_MARKS = {"string": b"", "int64": MISSING_INT64, "float64": float("nan")}


def numpy_dtype(feature: Feature) -> np.dtype:
    """The dtype of a feature's tensor; strings are UTF-8 bytes in object arrays."""
    return _NUMPY_DTYPES[feature.dtype]


def value_type(feature: Feature) -> pa.DataType:
    """The Arrow type of a single value of a feature."""
    return _ARROW_TYPES[feature.dtype]


def arrow_type(feature: Feature) -> pa.DataType:
    """The Arrow type of what a feature holds of one request or candidate: a value, or a list of them."""
    return pa.list_(value_type(feature)) if feature.multi_valued else value_type(feature)


def missing_mark(feature: Feature):
    """What stands for "no value" in a feature's tensor: `b""`, `MISSING_INT64` or NaN."""
    return MISSING_MARKS[feature.dtype]


def num_values(name: str) -> str:
    """The input that says how many values a multi-valued input holds at each place: int32; the rest is padding."""
    return f"{name}_num_values"


def check_spec(spec: FeatureSpec, takes_times: bool = False) -> None:
    """Raises InputError if a feature cannot be told from another input of the signatures.

    Args:
      spec: the features.
      takes_times: whether the model asks for the times of requests and behaviours.
    """
    taken = {REQUEST_INDEX, NUM_CANDIDATES, TABLES_VERSION, LONG_SUMS, ITEM_SIGNATURE}
    taken |= {num_values(feature.name) for feature in spec.features if feature.multi_valued}
    if spec.history is not None:
        columns = [history_column(window, name) for window in WINDOWS for name in (*spec.history.features, TIMESTAMP)]
        taken |= {*columns, *map(num_values, columns), *(f"{window}_length" for window in WINDOWS)}
    for feature in spec.features:
        if takes_times and feature.name == TIMESTAMP and (feature.dtype != TIME.dtype or feature.multi_valued):
            raise InputError(
                f"feature `{TIMESTAMP}` is also the request's time, which models with `recency` of gaps read: one "
                f"{TIME.dtype} value. Received: {feature.kind}, {feature.dtype}."
            )
        if feature.name in taken:
            raise InputError(
                f"feature `{feature.name}` has the name of an input of the exported signatures: rename the feature in "
                "the spec (keep its `column`)."
            )


def window_feature(spec: FeatureSpec, name: str) -> Feature:
    """What a window holds under a name: a history feature, or its behaviours' times."""
    return TIME if name == TIMESTAMP else spec[name]


def takes_times(windows: dict[str, tuple[str, ...]]) -> bool:
    """Whether a window holds its behaviours' times: the request's own then is an input too."""
    return any(TIMESTAMP in names for names in windows.values())


class HistoryInputs(Strict):
    """The history inputs of an exported ranker.

    Attributes:
      short_features: inputs `short_<feature>` `[R, S]`, multi-valued `[R, S, V]`, with `short_length` `[R]`: the last
        behaviours.
      long_features: inputs `long_<feature>` `[R, L]`, with `long_length` `[R]`: those before. Where `dim` is set,
        `serving_default` takes `long_sums` instead.
      short_length: behaviours of the short window, at most.
      long_length: behaviours of the long window, at most.
      version: of everything that bucket sums depend on: embeddings, the encoding of what they embed, signatures, hash,
        windows.
      simhash: the hash of the long history; None: the ranker takes no table.
      dim: width of a behaviour's embedding in the table.
      times: whether windows hold `<window>_timestamp`, beside `timestamp` of the request; exports from before there was
        recency take none.
    """

    short_features: tuple[str, ...]
    long_features: tuple[str, ...]
    short_length: int
    long_length: int
    version: str
    simhash: SimHashConfig | None
    dim: int | None
    times: bool = False

    @classmethod
    def of(
        cls, model, encoding: FeatureEncoding, item_signatures: ItemSignatures | None = None
    ) -> HistoryInputs | None:
        """Describes a ranker; None if it reads no histories.

        Args:
          model: the ranker.
          encoding: the encoding that it was trained with.
          item_signatures: those that it was built with, if any.

        Raises:
          ValueError: if signatures are looked up by `item_id` and the spec does not have it as a feature.
        """
        history, spec = getattr(model, "history_interest", None), encoding.spec
        if history is None:
            return None
        if history.uses_item_rows and "item_id" not in [feature.name for feature in spec.features]:
            raise InputError(
                "item signatures are looked up by `item_id`, which the spec does not name: add it to `features` and "
                "`history.features` (the model may leave it out by `exclude_features`)."
            )
        names = tuple(history.features)
        by_item = ("item_id",) if history.uses_item_rows and "item_id" not in names else ()
        table = history.uses_table
        return cls(
            short_features=names if "short" in history.windows else (),
            long_features=names + by_item if "long" in history.windows else (),
            short_length=spec.history.short_length,
            long_length=spec.history.long_length,
            version=_version(history, encoding, item_signatures),
            simhash=history.simhash_config if table else None,
            dim=history.dim if table else None,
            times=history.uses_times,
        )

    @classmethod
    def of_windows(cls, features: tuple[str, ...], spec: FeatureSpec) -> HistoryInputs:
        """Describes a model that takes both windows as behaviours of these features, and no table."""
        short, long = spec.history.short_length, spec.history.long_length
        return cls(
            short_features=features,
            long_features=features,
            short_length=short,
            long_length=long,
            version=_fingerprint([_windows(features, spec)]),
            simhash=None,
            dim=None,
        )

    @property
    def table_shape(self) -> tuple[int, int, int] | None:
        """Of one user's bucket sums: groups, buckets, width."""
        return (self.simhash.num_groups, self.simhash.num_buckets, self.dim) if self.simhash else None

    def windows(self, with_table: bool) -> dict[str, tuple[str, ...]]:
        """What each window that comes as behaviours holds; the long one does not where a table stands for it."""
        long = () if with_table and self.simhash else self.long_features
        times = (TIMESTAMP,) if self.times else ()
        return {w: names + times for w, names in (("short", self.short_features), ("long", long)) if names}

    def save(self, saved_model: storage.AnyPath) -> None:
        storage.write_text(storage.join(saved_model, BSE_FILE), self.model_dump_json(indent=1))

    @classmethod
    def load(cls, saved_model: storage.AnyPath) -> HistoryInputs | None:
        """Reads what an export takes; None if it takes no histories."""
        path = storage.join(saved_model, BSE_FILE)
        return cls.model_validate_json(storage.read_bytes(path)) if storage.is_file(path) else None


def _version(history, encoding: FeatureEncoding, item_signatures: ItemSignatures | None) -> str:
    """A fingerprint of what a bucket table is made of: two rankers with one version have the same tables."""
    parts = [_windows(history.features, encoding.spec)]
    if history.uses_table:
        parts.append(history.simhash_config.model_dump_json().encode())
        if history.table_recency is not None:
            parts.append(repr(GAP_BOUNDS).encode())
        parts += [weight.numpy().tobytes() for weight in history.table_weights]
        # Rows of the tables mean what the encoding, and the catalogue, say: the same numbers of another are others.
        parts += [_encoded_by(encoding, name) for name in history.features]
        if history.uses_item_rows and item_signatures is not None:
            parts.append(_listed(item_signatures.item_ids))
    return _fingerprint(parts)


def _encoded_by(encoding: FeatureEncoding, name: str) -> bytes:
    """What says which id a raw value gets."""
    feature = encoding.spec[name]
    said = repr((name, feature.dtype, feature.hash_buckets, feature.vocabulary and feature.vocabulary.oov_buckets))
    if feature.vocabulary is not None:
        return said.encode() + _listed(encoding.terms(name))
    bounds = encoding.boundaries(name).tobytes() if feature.transform == "bucketize" else b""
    return said.encode() + bounds


def _listed(values: pa.Array) -> bytes:
    """A digest of strings or integers in their order."""
    digest = hashlib.sha256()
    if pa.types.is_integer(values.type):
        digest.update(values.to_numpy(zero_copy_only=False).tobytes())
    else:
        digest.update(pc.binary_length(values).to_numpy(zero_copy_only=False).tobytes())
        digest.update("".join(values.to_pylist()).encode("utf-8", "surrogatepass"))
    return digest.digest()


def _windows(features: tuple[str, ...], spec: FeatureSpec) -> bytes:
    return repr((features, spec.history.short_length, spec.history.long_length)).encode()


def _fingerprint(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]
