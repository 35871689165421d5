"""What the train split taught about each feature, and how raw values become ids and numbers.

A `FeatureEncoding` is immutable, knows no Beam and no TensorFlow, and is the only definition of the encoding:
`features/encoding/encode.py` applies it to files, `serving/export/transforms.py` to tensors inside an exported model.

Ids: 0 = missing, 1..oov_buckets = out of vocabulary by hash, then the terms by falling count, ties by term.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.arrow import (
    is_list,
    list_lengths,
    lists_of,
    null_where,
    one_chunk,
    read_parquet,
    splits_of,
    to_numpy,
    write_parquet,
)
from features.config import Strict
from features.encoding import numeric
from features.encoding.hashing import hash64
from features.errors import InputError, NotFoundError
from features.spec import MISSING_INT64, Feature, FeatureSpec
from features.storage import AnyPath

ENCODING_FILE = "feature_encoding.json"
VOCABULARIES_DIR = "vocabularies"

_ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}


class Moments(Strict):
    """Of a numeric feature in the train split, after clipping to the range of float32.

    `variance` is of the population (divided by `count`); `missing` values count nowhere else.
    """

    count: int = 0
    missing: int = 0
    mean: float = 0.0
    variance: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0

    @property
    def std(self) -> float:
        return self.variance**0.5


class FeatureEncoding:
    """Encodes raw Arrow values of a spec's features.

    Args:
      spec: the features.
      vocabularies: a table of `term` and `count` for each feature with a vocabulary, in the order of the ids.
      moments: of each numeric feature.
      boundaries: rising quantile boundaries of each bucketised feature.

    Raises:
      InputError: if a feature lacks what its kind needs.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabularies: Mapping[str, pa.Table],
        moments: Mapping[str, Moments],
        boundaries: Mapping[str, np.ndarray],
    ):
        self.spec = spec
        self._vocabularies = dict(vocabularies)
        self._moments = dict(moments)
        self._boundaries = {name: np.asarray(values, np.float64) for name, values in boundaries.items()}
        for feature in spec.features:
            if feature.vocabulary is not None and feature.name not in self._vocabularies:
                raise InputError(f"feature `{feature.name}` has no vocabulary in the encoding: fit it again.")
            if feature.kind == "numeric" and feature.name not in self._moments:
                raise InputError(f"feature `{feature.name}` has no moments in the encoding: fit it again.")
            if feature.transform == "bucketize" and feature.name not in self._boundaries:
                raise InputError(f"feature `{feature.name}` has no boundaries in the encoding: fit it again.")
        self._terms = {
            name: one_chunk(table["term"]).cast(_ARROW_TYPES[spec[name].dtype])
            for name, table in self._vocabularies.items()
        }

    def terms(self, name: str) -> pa.Array:
        """The vocabulary of a feature, [terms] strings or int64, in the order of the ids."""
        self._require(name, name in self._terms, "vocabulary")
        return self._terms[name]

    def counts(self, name: str) -> np.ndarray:
        """How often each term stood in the train split, [terms] int64."""
        self._require(name, name in self._terms, "vocabulary")
        return self._vocabularies[name]["count"].to_numpy()

    def vocabulary(self, name: str) -> pa.Table:
        """The vocabulary of a feature as it is saved: `term`, `count`, and what else was kept of each term."""
        self._require(name, name in self._terms, "vocabulary")
        return self._vocabularies[name]

    def with_vocabularies(self, vocabularies: Mapping[str, pa.Table]) -> FeatureEncoding:
        """Returns the encoding with other vocabularies of some features."""
        return FeatureEncoding(self.spec, self._vocabularies | dict(vocabularies), self._moments, self._boundaries)

    def moments(self, name: str) -> Moments:
        """Moments of a numeric feature."""
        self._require(name, name in self._moments, "moments")
        return self._moments[name]

    def boundaries(self, name: str) -> np.ndarray:
        """Boundaries of a bucketised feature, rising, float64."""
        self._require(name, name in self._boundaries, "boundaries")
        return self._boundaries[name]

    def vocabulary_size(self, name: str) -> int:
        """Number of ids of a feature, id 0 included: the rows of its embedding table."""
        feature = self.spec[name]
        if feature.vocabulary is not None:
            return 1 + feature.vocabulary.oov_buckets + len(self._terms[name])
        if feature.hash_buckets is not None:
            return 1 + feature.hash_buckets
        self._require(name, feature.has_ids, "ids")
        return 2 + len(self._boundaries[name])

    def center_and_scale(self, name: str) -> tuple[float, float]:
        """What the feature's transform subtracts and multiplies by; see `features.encoding.numeric`."""
        moments = self.moments(name)
        return numeric.center_and_scale(
            self.spec[name].transform, moments.mean, moments.std, moments.minimum, moments.maximum
        )

    def encode(self, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Encodes raw values.

        Args:
          name: the feature.
          values: [n] values, or lists of them to any depth, null where missing; slices and dictionaries are fine. Of a
            multi-valued feature the innermost lists are the values of one example.

        Returns:
          int32 ids or float32 numbers in the same nesting, without nulls: a missing value is 0, and is dropped from
          the lists of a multi-valued feature; a missing list is an empty one.

        Raises:
          InputError: if the values do not fit the feature's kind or dtype.
        """
        feature = self.spec[name]
        values = one_chunk(values)
        if is_list(values.type) and feature.multi_valued and not is_list(values.type.value_type):
            return self._encode_sets(feature, values)
        if is_list(values.type):
            return lists_of(self.encode(name, values.flatten()), splits_of(list_lengths(values)))
        if feature.multi_valued and not pa.types.is_null(values.type):
            raise InputError(f"feature `{name}` is multi-valued: its values must be lists. Received: {values.type}.")
        if feature.multi_valued:
            return lists_of(pa.array([], pa.int32()), np.zeros(len(values) + 1))
        return pa.array(self._encode_flat(feature, values))

    def encoded_type(self, name: str) -> pa.DataType:
        """Arrow type of one encoded value: int32, float32, or a list of int32."""
        feature = self.spec[name]
        value = pa.int32() if feature.has_ids else pa.float32()
        return pa.list_(value) if feature.multi_valued else value

    def save(self, directory: AnyPath) -> None:
        """Writes the encoding; the JSON file comes last, so that it stands for a complete one."""
        for name, table in self._vocabularies.items():
            write_parquet(table, _vocabulary_file(directory, name))
        features: dict[str, dict[str, Any]] = {}
        for feature in self.spec.features:
            entry = features[feature.name] = {}
            if feature.has_ids:
                entry["vocabulary_size"] = self.vocabulary_size(feature.name)
            if feature.name in self._moments:
                entry["moments"] = self._moments[feature.name].model_dump()
            if feature.name in self._boundaries:
                entry["boundaries"] = self._boundaries[feature.name].tolist()
        text = json.dumps({"spec": self.spec.model_dump(mode="json"), "features": features}, indent=2)
        storage.write_text(storage.join(directory, ENCODING_FILE), text + "\n")

    @classmethod
    def load(cls, directory: AnyPath) -> FeatureEncoding:
        """Reads what `save` wrote.

        Raises:
          NotFoundError: if there is no complete encoding.
        """
        path = storage.join(directory, ENCODING_FILE)
        if not storage.is_file(path):
            raise NotFoundError(f"`directory` holds no {ENCODING_FILE}: no encoding was fitted. Received: {directory}")
        document = json.loads(storage.read_text(path))
        spec = FeatureSpec.model_validate(document["spec"])
        features = document["features"]
        return cls(
            spec,
            {
                feature.name: read_parquet(_vocabulary_file(directory, feature.name))
                for feature in spec.features
                if feature.vocabulary is not None
            },
            {name: Moments(**entry["moments"]) for name, entry in features.items() if "moments" in entry},
            {name: entry["boundaries"] for name, entry in features.items() if "boundaries" in entry},
        )

    def _encode_sets(self, feature: Feature, values: pa.Array) -> pa.Array:
        ids = self._encode_flat(feature, values.flatten())
        lengths = list_lengths(values)
        kept = ids != 0
        if not kept.all():
            ends = np.cumsum(lengths)
            before = np.append(0, np.cumsum(kept))
            lengths = before[ends] - before[ends - lengths]
            ids = ids[kept]
        return lists_of(ids, splits_of(lengths))

    def _encode_flat(self, feature: Feature, values: pa.Array) -> np.ndarray:
        if feature.kind == "numeric":
            return self._encode_numbers(feature, numbers(values, feature))
        if pa.types.is_dictionary(values.type):
            table = np.append(self._encode_flat(feature, values.dictionary), np.int32(0))
            return table[to_numpy(values.indices.cast(pa.int64()).fill_null(-1))]
        values = terms(values, feature)
        missing = to_numpy(values.is_null())
        if feature.hash_buckets is not None:
            ids = 1 + (hash64(values) % np.uint64(feature.hash_buckets)).astype(np.int32)
        else:
            ids = self._look_up(feature.name, values)
        ids[missing] = 0
        return ids

    def _look_up(self, name: str, values: pa.Array) -> np.ndarray:
        terms = self._terms[name]
        oov_buckets = self.vocabulary_size(name) - 1 - len(terms)
        index = pc.index_in(values, value_set=terms)
        ids = to_numpy(index.fill_null(0)) + np.int32(1 + oov_buckets)
        if index.null_count:
            unknown = index.is_null()
            rows = to_numpy(unknown)
            if oov_buckets == 1:
                ids[rows] = 1
            else:
                ids[rows] = 1 + (hash64(values.filter(unknown)) % np.uint64(oov_buckets)).astype(np.int32)
        return ids

    def _encode_numbers(self, feature: Feature, x: np.ndarray) -> np.ndarray:
        missing = np.isnan(x)
        x = numeric.clean(np.where(missing, 0.0, x))
        if feature.transform == "bucketize":
            ids = 1 + np.searchsorted(self._boundaries[feature.name], x, side="right")
            return np.where(missing, 0, ids).astype(np.int32)
        center, scale = self.center_and_scale(feature.name)
        return np.where(missing, 0.0, numeric.transform(x, feature.transform, center, scale)).astype(np.float32)

    def _require(self, name: str, present: bool, what: str) -> None:
        if not present:
            feature = self.spec[name]
            raise InputError(f"feature `{name}` has no {what}: it is {feature.kind}, transform {feature.transform}.")


def _vocabulary_file(directory: AnyPath, name: str) -> str:
    return storage.join(directory, VOCABULARIES_DIR, f"{name}.parquet")


def terms(values: pa.Array, feature: Feature) -> pa.Array:
    """Raw values of a categorical feature in its dtype, with every missing value ('' and MISSING_INT64 too) as null.

    Raises:
      InputError: if they cannot be cast to the feature's dtype.
    """
    values = _cast(values, feature)
    none = pa.scalar("") if feature.dtype == "string" else pa.scalar(MISSING_INT64, pa.int64())
    missing = pc.equal(values, none)
    return null_where(values, missing) if pc.any(missing).as_py() else values


def numbers(values: pa.Array, feature: Feature) -> np.ndarray:
    """Raw values of a numeric feature as float64, with every missing value (MISSING_INT64 too) as NaN.

    Raises:
      InputError: if they cannot be cast to the feature's dtype.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type) and feature.dtype == "float64":
        return to_numpy(values.cast(pa.float64()))
    if pa.types.is_integer(values.type) and not pa.types.is_uint64(values.type):
        # Not through Arrow's cast: it refuses integers above 2^53, TensorFlow rounds them.
        filled = to_numpy(values.cast(pa.int64()).fill_null(MISSING_INT64))
        return np.where(filled == MISSING_INT64, np.nan, filled.astype(np.float64))
    values = _cast(values, feature)
    return numbers(values, feature)


def _cast(values: pa.Array, feature: Feature) -> pa.Array:
    kind = _ARROW_TYPES[feature.dtype]
    if values.type == kind:
        return values
    if pa.types.is_nested(values.type):
        raise InputError(f"feature `{feature.name}` is {feature.kind}: its values must not be lists.")
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"feature `{feature.name}` must hold {feature.dtype}. Received: {values.type}: {error}"
        ) from error
