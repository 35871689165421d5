"""A small real ranker and raw requests of every kind of feature, for the tests of export and scoring."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import models  # noqa: F401
from features.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "shop",
        "embedding_dim": 8,
        "features": [
            {"name": "age_band", "table": "users", "vocabulary": {"oov_buckets": 4}},
            {"name": "user_id", "table": "users", "hash_buckets": 50},
            {"name": "hour", "table": "impressions", "dtype": "int64"},
            {"name": "interests", "table": "users", "kind": "multi_categorical", "vocabulary": {"oov_buckets": 3}},
            {
                "name": "activity",
                "table": "users",
                "kind": "numeric",
                "dtype": "int64",
                "transform": "log_squared_floor",
            },
            {"name": "item_id", "table": "items", "vocabulary": {"min_count": 2, "oov_buckets": 5}},
            {"name": "shop_id", "table": "items", "dtype": "int64", "hash_buckets": 20},
            {"name": "tags", "table": "items", "kind": "multi_categorical", "dtype": "int64"},
            {"name": "words", "table": "items", "kind": "multi_categorical", "hash_buckets": 30},
            {"name": "raw", "table": "items", "kind": "numeric"},
            {"name": "price", "table": "items", "kind": "numeric", "transform": "log_squared"},
            {"name": "weight", "table": "items", "kind": "numeric", "transform": "standardize"},
            {"name": "rating", "table": "items", "kind": "numeric", "transform": "min_max"},
            {"name": "stock", "table": "items", "kind": "numeric", "transform": "bucketize", "num_buckets": 5},
        ],
    }
)

INTERESTS = ["sport", "buch", "книга", "本", "café", "a b"]
WORDS = ["red", "shoe", "größe", "🙂"]


def raw_schema(spec: FeatureSpec) -> pa.Schema:
    """The Arrow schema of raw examples of a spec."""
    kinds = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    fields = {
        "request_id": pa.string(),
        "timestamp": pa.int64(),
        "user_id": pa.string(),
        "history_end": pa.int64(),
        "user_index": pa.int32(),
        "item_id": pa.list_(pa.string()),
        "position": pa.list_(pa.int32()),
        spec.label: pa.list_(pa.float32()),
    }
    for feature in spec.features:
        kind = pa.list_(kinds[feature.dtype]) if feature.multi_valued else kinds[feature.dtype]
        fields[feature.name] = pa.list_(kind) if feature.scope == "candidate" else kind
    return pa.schema(list(fields.items()))


def random_requests(count: int, seed: int = 0, first: int = 0) -> pa.Table:
    """`count` raw requests of 1 to 6 candidates with values missing here and there."""
    rng = np.random.default_rng(seed)

    def maybe(value):
        return None if rng.random() < 0.15 else value

    def some(values, most=4):
        return maybe([maybe(values[rng.integers(len(values))]) for _ in range(rng.integers(0, most + 1))])

    rows = []
    for number in range(first, first + count):
        candidates = int(rng.integers(1, 7))

        def each(make, candidates=candidates):
            return [make() for _ in range(candidates)]

        rows.append(
            {
                "request_id": f"r{number}",
                "timestamp": 1_700_000_000_000 + number,
                "user_id": f"u{rng.integers(40)}",
                "history_end": int(rng.integers(20)),
                "user_index": int(rng.integers(40)),
                "item_id": each(lambda: f"i{rng.integers(30)}"),
                "position": list(range(candidates)),
                "click": each(lambda: float(rng.random() < 0.3)),
                "age_band": maybe(f"{rng.integers(1, 6)}0s"),
                "hour": maybe(int(rng.integers(24))),
                "interests": some(INTERESTS),
                "activity": maybe(int(rng.integers(2000))),
                "shop_id": each(lambda: maybe(int(rng.integers(-5, 10)))),
                "tags": each(lambda: some(list(range(-3, 12)))),
                "words": each(lambda: some(WORDS)),
                "raw": each(lambda: maybe(float(rng.normal()))),
                "price": each(lambda: maybe(float(rng.lognormal(3)))),
                "weight": each(lambda: maybe(float(rng.normal(5, 3)))),
                "rating": each(lambda: maybe(float(rng.integers(1, 6)))),
                "stock": each(lambda: maybe(float(rng.integers(100)))),
            }
        )
    return pa.Table.from_pylist(rows, schema=raw_schema(SPEC))


def make_small_ranker(encoding, seed: int = 0):
    """A Keras ranker that reads every feature: embeddings, means of lists, numbers; its logits differ by feature."""
    import tensorflow as tf

    class SmallRanker(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.tables, self.vectors = {}, {}
            dim = encoding.spec.embedding_dim
            rng = np.random.default_rng(seed)
            for feature in encoding.spec.features:
                if feature.has_ids:
                    rows = rng.normal(0, 1, [encoding.vocabulary_size(feature.name), dim])
                    self.tables[feature.name] = tf.Variable(rows, dtype=tf.float32)
                else:
                    self.vectors[feature.name] = tf.Variable(rng.normal(0, 1, [dim]), dtype=tf.float32)
            self.mix = tf.Variable(rng.normal(0, 1, [dim, dim]), dtype=tf.float32)
            self.out = tf.Variable(rng.normal(0, 0.5, [dim]), dtype=tf.float32)

        def call(self, batch, training=False):
            total = 0.0
            for feature in encoding.spec.features:
                values = batch["features"][feature.name]
                if feature.multi_valued:
                    flat = tf.gather(self.tables[feature.name], values.values)
                    sums = tf.math.unsorted_segment_sum(flat, values.value_rowids(), values.nrows())
                    embedded = tf.math.divide_no_nan(sums, tf.cast(values.row_lengths(), tf.float32)[:, None])
                elif feature.has_ids:
                    embedded = tf.gather(self.tables[feature.name], values)
                else:
                    embedded = tf.asinh(values)[:, None] * self.vectors[feature.name]
                if feature.scope == "request":
                    embedded = tf.gather(embedded, batch["request_index"])
                total += embedded
            hidden = tf.tanh(tf.linalg.matmul(total / 4.0, self.mix))
            return tf.linalg.matvec(hidden, self.out)

    return SmallRanker()


def offline_logits(model, encoding, table: pa.Table) -> np.ndarray:
    """Logits of the model fed with the offline encoding, put together value by value: the reference of parity."""
    import tensorflow as tf

    rows = table.to_pylist()
    features = {}
    for feature in encoding.spec.features:
        values = [row[feature.name] for row in rows]
        kind = table.schema.field(feature.name).type
        if feature.scope == "candidate":
            values, kind = [value for row in values for value in row], kind.value_type
        encoded = encoding.encode(feature.name, pa.array(values, kind)).to_pylist()
        if feature.multi_valued:
            features[feature.name] = tf.ragged.constant(encoded, ragged_rank=1, dtype=tf.int32)
        else:
            features[feature.name] = tf.constant(encoded, tf.int32 if feature.has_ids else tf.float32)
    index = [number for number, row in enumerate(rows) for _ in row["item_id"]]
    batch = {"features": features, "request_index": tf.constant(index, tf.int32)}
    return tf.reshape(model(batch, training=False), [-1]).numpy()


def json_request(row: dict) -> dict:
    """A raw request row as the JSON request that a client would send."""
    request = {name: row[name] for name in row if SPEC_SCOPES.get(name) == "request"}
    candidates = [
        {name: row[name][place] for name in row if SPEC_SCOPES.get(name) == "candidate"}
        for place in range(len(row["item_id"]))
    ]
    return {"request_id": row["request_id"], "user": request, "candidates": candidates}


SPEC_SCOPES = {feature.name: feature.scope for feature in SPEC.features}
