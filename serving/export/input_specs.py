"""Tensor specs of exported signatures' inputs.

A served signature has one first dimension that all its inputs and outputs share: TensorFlow Serving merges requests
along it, and pads what they differ in behind it with whatever a tensor holds first. So how much of a tensor is real
always stands in another input, never in its values.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from features.histories.windows import TIMESTAMP, history_column
from features.spec import Feature, FeatureSpec
from serving.saved.signature_specs import (
    ITEM_SIGNATURE,
    LONG_SUMS,
    NUM_CANDIDATES,
    TABLES_VERSION,
    TIME,
    HistoryInputs,
    num_values,
    takes_times,
    window_feature,
)

Specs = dict[str, tf.TensorSpec]


def value_specs(feature: Feature, rank: int, name: str | None = None) -> Specs:
    """Specs of a raw feature: `[…]` of a rank; multi-valued `[…, V]`, and how many of the V are values, `[…]` int32."""
    name = name or feature.name
    shape = [None] * rank
    if not feature.multi_valued:
        return {name: tf.TensorSpec(shape, tf.as_dtype(feature.dtype), name=name)}
    count = num_values(name)
    return {
        name: tf.TensorSpec([*shape, None], tf.as_dtype(feature.dtype), name=name),
        count: tf.TensorSpec(shape, tf.int32, name=count),
    }


def feature_specs(spec: FeatureSpec, names: Iterable[str], rank: int = 1) -> Specs:
    """Specs of several raw features of one rank."""
    specs: Specs = {}
    for name in names:
        specs |= value_specs(spec[name], rank)
    return specs


def window_specs(spec: FeatureSpec, windows: dict[str, tuple[str, ...]]) -> Specs:
    """Specs of behaviour windows, `<window>_<feature>` `[R, S]` (multi-valued: `[R, S, V]`) and `<window>_length`
    `[R]`; `timestamp` `[R]` where a window asks for times."""
    specs: Specs = {}
    for window, names in windows.items():
        for name in names:
            specs |= value_specs(window_feature(spec, name), 2, history_column(window, name))
        specs |= _vector(f"{window}_length", tf.int32)
    if takes_times(windows):
        specs |= value_specs(TIME, 1, TIMESTAMP)
    return specs


def slate_specs(spec: FeatureSpec, names: Iterable[str]) -> Specs:
    """Specs of candidates: features `[R, N]` or `[R, N, V]`, and `num_candidates` `[R]`."""
    return feature_specs(spec, names, rank=2) | _vector(NUM_CANDIDATES, tf.int32)


def table_specs(history: HistoryInputs | None) -> Specs:
    """Specs of stored long histories, `long_sums` `[R, G, 2^tau, d]` and `tables_version` `[R]`; none without them."""
    if history is None or history.simhash is None:
        return {}
    sums = tf.TensorSpec([None, *history.table_shape], tf.float32, name=LONG_SUMS)
    return {LONG_SUMS: sums} | _vector(TABLES_VERSION, tf.string)


def signature_spec(history: HistoryInputs) -> Specs:
    """Spec of candidates' signatures that the catalogue lacks, `[R, N, G]` int32."""
    shape = [None, None, history.simhash.num_groups]
    return {ITEM_SIGNATURE: tf.TensorSpec(shape, tf.int32, name=ITEM_SIGNATURE)}


def _vector(name: str, dtype: tf.DType) -> Specs:
    return {name: tf.TensorSpec([None], dtype, name=name)}
