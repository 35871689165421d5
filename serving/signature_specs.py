"""What the tensors of an exported ranker look like: dtypes, shapes and the marks that stand for "no value"."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features.histories.windows import history_column
from features.spec import MISSING_INT64, Feature, FeatureSpec

#: Input of `rank_requests` beside the features: `[N]` int32, the request that each candidate belongs to.
REQUEST_INDEX = "request_index"

SERVING_DEFAULT = "serving_default"
RANK_REQUESTS = "rank_requests"

#: Of rankers that attend over their fields: the inputs of `serving_default` to `attention` `[N, layers, H, M, M]`.
EXPLAIN = "explain"

#: Where an export keeps the spec of its features, inside the SavedModel.
SPEC_FILE = "assets.extra/feature_spec.json"

#: Where an export with the signature `explain` keeps the names of the M fields, a JSON list.
ATTENTION_FIELDS_FILE = "assets.extra/attention_fields.json"

_NUMPY_DTYPES = {"string": np.dtype(object), "int64": np.dtype(np.int64), "float64": np.dtype(np.float64)}
_ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
_MISSING = {"string": b"", "int64": MISSING_INT64, "float64": float("nan")}


def numpy_dtype(feature: Feature) -> np.dtype:
    """The dtype of a feature's tensor; strings are UTF-8 bytes in object arrays."""
    return _NUMPY_DTYPES[feature.dtype]


def arrow_type(feature: Feature) -> pa.DataType:
    """The Arrow type of one value of a feature."""
    return _ARROW_TYPES[feature.dtype]


def missing_mark(feature: Feature):
    """What stands for "no value" in a feature's tensor: `b""`, `MISSING_INT64` or NaN."""
    return _MISSING[feature.dtype]


def check_spec(spec: FeatureSpec) -> None:
    """Raises ValueError if a feature cannot be told from another input of the signatures."""
    for feature in spec.features:
        if feature.name == REQUEST_INDEX:
            raise ValueError(
                f"feature `{REQUEST_INDEX}` has the name of an input of the signature `{RANK_REQUESTS}`: rename the "
                "feature in the spec (keep its `column`)."
            )


def window_specs(spec: FeatureSpec, windows: dict[str, tuple[str, ...]], rows: int | None) -> dict:
    """Tensor specs of behaviour windows, `<window>_<feature>` `[rows, S]` and `<window>_length` `[rows]`."""
    import tensorflow as tf

    specs = {}
    for window, names in windows.items():
        for name in names:
            column = history_column(window, name)
            specs[column] = tf.TensorSpec([rows, None], tf.as_dtype(spec[name].dtype), name=column)
        specs[f"{window}_length"] = tf.TensorSpec([rows], tf.int32, name=f"{window}_length")
    return specs


def tensor_spec(feature: Feature, rows: int | None):
    """Tensor spec of a raw feature: `[rows]`, or `[rows, V]` of a multi-valued one."""
    import tensorflow as tf

    shape = [rows, None] if feature.multi_valued else [rows]
    return tf.TensorSpec(shape, tf.as_dtype(feature.dtype), name=feature.name)
