"""Where each row of a table comes from when the vocabulary has changed, and what became of every variable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.arrow import to_numpy, write_parquet
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError

REPORT_FILE = "warm_start.json"
ROWS_FILE = "warm_start_rows.parquet"

_SHAPE = ("kind", "dtype", "hash_buckets", "num_buckets")


@dataclass
class CarriedFeature:
    """A feature's rows.

    Attributes:
      source: [rows] int64: the row in the feature's part of the old table that each comes from; -1: it is new.
      dropped: how many of the old rows went.
      cold: why no row was carried; '': they were.
    """

    source: np.ndarray
    dropped: int = 0
    cold: str = ""

    @property
    def carried(self) -> int:
        return int((self.source >= 0).sum())


@dataclass
class WarmStartReport:
    """Which rows and variables came from where.

    Attributes:
      source: the training state; '': there was none.
      span: its newest day as 20261124; 0: none.
      cold: why all starts cold; '': it does not.
      features: by name.
      variables: by path, `carried`, `by row`, or why it starts cold.
      optimizer: `carried`, or why its state starts cold.
    """

    source: str = ""
    span: int = 0
    cold: str = ""
    features: dict[str, CarriedFeature] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    optimizer: str = ""

    @property
    def summary(self) -> str:
        """What became of the start, in a sentence or more."""
        if self.cold:
            return f"Cold start: {self.cold}."
        carried = sum(each.carried for each in self.features.values())
        rows = sum(len(each.source) for each in self.features.values())
        told = [f"Warm start from {self.source}: {carried:,} of {rows:,} embedding rows carried."]
        told += [f"`{name}` starts cold: {each.cold}." for name, each in self.features.items() if each.cold]
        cold: dict[str, list[str]] = {}
        for name, what in self.variables.items():
            if what not in ("carried", "by row"):
                cold.setdefault(what, []).append(name)
        for why, names in cold.items():
            some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            told.append(f"Cold are {len(names)} of {len(self.variables)} variables ({some}): {why}.")
        if self.optimizer != "carried":
            told.append(f"The optimiser's state starts cold: {self.optimizer}.")
        return " ".join(told)

    def save(self, directory: storage.AnyPath, encoding: FeatureEncoding) -> None:
        """Writes `warm_start.json`, and `warm_start_rows.parquet`: feature, id, term, id in the old table or null."""
        features = {
            name: {
                "rows": len(each.source),
                "carried": each.carried,
                "new": len(each.source) - each.carried,
                "dropped": each.dropped,
                "cold": each.cold,
            }
            for name, each in self.features.items()
        }
        facts = {"source": self.source, "span": self.span, "cold": self.cold, "optimizer": self.optimizer}
        text = json.dumps(facts | {"features": features, "variables": self.variables}, indent=2)
        parts = [_rows_table(name, each, encoding) for name, each in self.features.items()]
        if parts:
            write_parquet(pa.concat_tables(parts), storage.join(directory, ROWS_FILE))
        storage.write_text(storage.join(directory, REPORT_FILE), text + "\n")


def carried_rows(name: str, old: FeatureEncoding, new: FeatureEncoding) -> CarriedFeature:
    """Returns where each row of a feature with ids comes from.

    Ids of a vocabulary are followed by their term, those before them (missing, out of vocabulary) and hashed and
    bucketised ones by their number.

    Args:
      name: of the feature, which `new` has.
      old, new: the encodings.
    """
    size, feature = new.vocabulary_size(name), new.spec[name]
    cold = CarriedFeature(np.full(size, -1, np.int64))
    if name not in [each.name for each in old.spec.features]:
        cold.cold = "the feature is new"
        return cold
    before = old.spec[name]
    for part in (*_SHAPE, "has_ids", "oov_buckets"):
        was, now = (_part(each, part) for each in (before, feature))
        if was != now:
            cold.cold = f"its {part} was {was} and is {now}"
            return cold
    if feature.vocabulary is None:  # Quantiles that fall together make fewer buckets than were asked for.
        rows = np.arange(size)
        return CarriedFeature(np.where(rows < old.vocabulary_size(name), rows, -1))
    first = 1 + feature.vocabulary.oov_buckets
    found = to_numpy(pc.fill_null(pc.index_in(new.terms(name), value_set=old.terms(name)), -1)).astype(np.int64)
    source = np.concatenate([np.arange(first), np.where(found < 0, -1, found + first)])
    return CarriedFeature(source, dropped=old.vocabulary_size(name) - int((source >= 0).sum()))


def _part(feature, part: str):
    """What must be the same for an id to mean the same."""
    if part == "oov_buckets":
        return None if feature.vocabulary is None else feature.vocabulary.oov_buckets
    if part == "num_buckets":
        return feature.num_buckets if feature.transform == "bucketize" else None
    return getattr(feature, part)


def _rows_table(name: str, rows: CarriedFeature, encoding: FeatureEncoding) -> pa.Table:
    try:
        terms = encoding.terms(name).cast(pa.string())
    except InputError:  # hashed or bucketised: an id is all there is
        terms = pa.array([], pa.string())
    size = len(rows.source)
    return pa.table(
        {
            "feature": pa.array([name] * size).dictionary_encode().cast(pa.string()),
            "id": pa.array(np.arange(size), pa.int64()),
            "term": pa.concat_arrays([pa.nulls(size - len(terms), pa.string()), terms]),
            "source_id": pa.array(rows.source, mask=rows.source < 0),
        }
    )
