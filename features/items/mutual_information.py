"""How much item features tell about one another: what correlated feature masking needs, computed once.

Mutual information of every pair of features over the catalogue, each item counted once (SSL, arXiv 2007.12865, section
3.2: `MI(V_i, V_j) = Σ P(v_i, v_j) log[P(v_i, v_j) / (P(v_i) P(v_j))]`). Files are read in Beam, row group by row group,
into contingency tables that add up.

Choices that the paper leaves open:

- **Multi-valued features** count by their first value (0 where the list is empty).
- **Numbers** count by equal-mass bins over the catalogue.
- **Bias.** From n items the plug-in estimate of two independent features is above 0, the more so the larger their
  vocabularies. The **null** is the mean plug-in estimate after one column was shuffled; `minus_null` subtracts it.
- **The item id.** `MI(id, f) = H(f)` for every f, shuffled or not: by `plug_in` the id is every feature's nearest
  relative, by `minus_null` nobody's (exactly 0). `normalized` (`MI / sqrt(H_i H_j)`) stands between.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import list_splits, open_parquet, to_numpy
from features.config import Strict
from features.items.catalogue import CATALOGUE_FILE
from features.items.config import Estimate
from features.spec import Feature, FeatureSpec
from features.storage import AnyPath

_CODE_BITS = np.uint64(32)
_BATCH_ITEMS = 65_536


class MutualInformation(Strict):
    """Of K item features over n items, in nats.

    Attributes:
      features: [K] names.
      items: n.
      plug_in: [K][K], symmetric; its diagonal holds the entropies.
      null: [K][K] mean plug-in estimate over shuffles; 0 on the diagonal.
      num_shuffles: of each pair.
    """

    features: tuple[str, ...]
    items: int
    plug_in: tuple[tuple[float, ...], ...]
    null: tuple[tuple[float, ...], ...]
    num_shuffles: int

    def matrix(self, estimate: Estimate = "minus_null") -> np.ndarray:
        """Returns [K, K] float64: `plug_in`, `minus_null` or `normalized` (1 on its diagonal; 0 for a constant)."""
        plug_in = np.asarray(self.plug_in)
        if estimate == "minus_null":
            return plug_in - np.asarray(self.null)
        if estimate == "normalized":
            scale = np.sqrt(np.outer(np.diag(plug_in), np.diag(plug_in)))
            return np.divide(plug_in, scale, out=np.zeros_like(plug_in), where=scale > 0)
        return plug_in

    def save(self, path: AnyPath) -> None:
        storage.write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: AnyPath) -> MutualInformation:
        return cls.model_validate_json(storage.read_text(path))


class Contingency:
    """Counts of values and of pairs of values of K features; two of them add up.

    A value is a code of 32 bits: an id, or the bits of a float32. Only pairs that occur are kept, at most n a pair of
    features.
    """

    def __init__(self, num_features: int):
        none = np.zeros(0, np.uint64)
        self.items = 0
        self.values = [(none, none.astype(np.int64))] * num_features
        self.pairs = {pair: (none, none.astype(np.int64)) for pair in itertools.combinations(range(num_features), 2)}

    def update(self, codes: np.ndarray) -> None:
        """Adds items, `codes` [K, n] uint32."""
        codes = codes.astype(np.uint64)
        self.items += codes.shape[1]
        for i, column in enumerate(codes):
            self.values[i] = _add(self.values[i], (column, None))
        for i, j in self.pairs:
            self.pairs[i, j] = _add(self.pairs[i, j], (codes[i] << _CODE_BITS | codes[j], None))

    def merge(self, other: Contingency) -> None:
        self.items += other.items
        self.values = [_add(mine, theirs) for mine, theirs in zip(self.values, other.values, strict=True)]
        for pair, theirs in other.pairs.items():
            self.pairs[pair] = _add(self.pairs[pair], theirs)


def item_codes(columns: pa.RecordBatch | dict[str, pa.Array], features: tuple[Feature, ...]) -> np.ndarray:
    """Returns the codes of encoded items, [K, n] uint32; multi-valued features by their first value."""
    codes = []
    for feature in features:
        values = columns[feature.name]
        if feature.multi_valued:
            offsets, flat = list_splits(values), to_numpy(values.flatten())
            filled = offsets[1:] > offsets[:-1]
            column = np.zeros(len(filled), np.int32)
            column[filled] = flat[offsets[:-1][filled]]
        else:
            column = to_numpy(values)
        # Adding 0 makes one value of -0.0 and 0.0.
        numbers = column.astype(np.int32) if feature.has_ids else column.astype(np.float32) + np.float32(0)
        codes.append(numbers.view(np.uint32))
    return np.stack(codes)


def mutual_information_of(
    state: Contingency, features: tuple[Feature, ...], num_shuffles: int = 5, num_bins: int = 20, seed: int = 0
) -> MutualInformation:
    """Reads mutual information off contingency tables.

    The null needs no second pass: a column shuffled is its values in any order.

    Args:
      state: counts over the catalogue.
      features: as they were counted.
      num_shuffles: how often a pair is shuffled for its null; 0: the null is 0.
      num_bins: equal-mass bins of a number.
      seed: of the shuffles.

    Raises:
      ValueError: if there is no item.
    """
    if not state.items:
        raise ValueError("the catalogue is empty: mutual information needs items.")
    rng = np.random.default_rng(seed)
    levels = [
        _levels(codes, counts, feature, num_bins)
        for (codes, counts), feature in zip(state.values, features, strict=True)
    ]
    margins = [np.bincount(level, counts) for level, (_, counts) in zip(levels, state.values, strict=True)]
    plug_in, null = np.zeros((2, len(features), len(features)))
    for i, margin in enumerate(margins):
        share = margin[margin > 0] / state.items
        plug_in[i, i] = -np.sum(share * np.log(share))
    for (i, j), (keys, counts) in state.pairs.items():
        first = levels[i][np.searchsorted(state.values[i][0], keys >> _CODE_BITS)]
        second = levels[j][np.searchsorted(state.values[j][0], keys & np.uint64(0xFFFFFFFF))]
        plug_in[i, j] = plug_in[j, i] = _plug_in(first, second, counts, margins[i], margins[j])
        columns = [np.repeat(np.arange(len(m)), m.astype(np.int64)) for m in (margins[i], margins[j])]
        nulls = [
            _plug_in(columns[0], rng.permutation(columns[1]), None, margins[i], margins[j]) for _ in range(num_shuffles)
        ]
        null[i, j] = null[j, i] = np.mean(nulls) if nulls else 0.0
    return MutualInformation(
        features=tuple(feature.name for feature in features),
        items=state.items,
        plug_in=tuple(map(tuple, plug_in.tolist())),
        null=tuple(map(tuple, null.tolist())),
        num_shuffles=num_shuffles,
    )


def estimate_mutual_information(
    root: Any, encoded_dir: AnyPath, spec: FeatureSpec, output: AnyPath, **options: int
) -> Any:
    """Adds to a Beam pipeline: count the encoded catalogue and save a `MutualInformation`.

    Args:
      root: a pipeline; see `features.beam_runner.make_pipeline`.
      encoded_dir: encoded examples with their catalogue; it must exist when the pipeline is built.
      spec: the features; those of `items` are compared.
      output: the JSON file to write.
      **options: of `mutual_information_of`.

    Returns:
      A PCollection of `output`, one element.

    Raises:
      ValueError: if the spec has fewer than two features of `items`.
    """
    import apache_beam as beam

    features = spec.of_table("items")
    if len(features) < 2:
        raise ValueError(
            f"mutual information needs two features of `items`. Spec `{spec.name}` has: {[f.name for f in features]}."
        )
    path = storage.join(encoded_dir, CATALOGUE_FILE)
    with open_parquet(path) as file:
        parts = [(path, group) for group in range(file.num_row_groups)]

    def save(state: Contingency) -> str:
        mutual_information_of(state, features, **options).save(output)
        return storage.join(output)

    return (
        root
        | "RowGroups" >> beam.Create(parts)
        | "CountValues" >> beam.FlatMap(lambda part: count_row_group(part[0], part[1], features))
        | "AddCounts" >> beam.CombineGlobally(lambda states: merge_all(states, len(features)))
        | "SaveMutualInformation" >> beam.Map(save)
    )


def count_row_group(path: str, group: int, features: tuple[Feature, ...]) -> Iterator[Contingency]:
    """Reads one row group of the encoded catalogue, yields its counts."""
    state = Contingency(len(features))
    with open_parquet(path) as file:
        names = [feature.name for feature in features]
        for batch in file.iter_batches(_BATCH_ITEMS, row_groups=[group], columns=names):
            state.update(item_codes(batch, features))
    yield state


def merge_all(states: Iterable[Contingency], num_features: int) -> Contingency:
    total = Contingency(num_features)
    for state in states:
        total.merge(state)
    return total


def _add(
    counted: tuple[np.ndarray, np.ndarray], more: tuple[np.ndarray, np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Adds counts of keys; `more` without counts counts each key once."""
    counts = np.ones(len(more[0]), np.int64) if more[1] is None else more[1]
    keys, inverse = np.unique(np.concatenate([counted[0], more[0]]), return_inverse=True)
    return keys, np.bincount(inverse, np.concatenate([counted[1], counts]), len(keys)).astype(np.int64)


def _levels(codes: np.ndarray, counts: np.ndarray, feature: Feature, num_bins: int) -> np.ndarray:
    """The level of each distinct code, [codes] from 0: itself, or the bin of a number."""
    if feature.has_ids:
        return np.arange(len(codes))
    order = np.argsort(codes.astype(np.uint32).view(np.float32), kind="stable")
    middle = np.cumsum(counts[order]) - counts[order] / 2
    levels = np.empty(len(codes), np.int64)
    levels[order] = np.minimum(num_bins * middle // max(counts.sum(), 1), num_bins - 1).astype(np.int64)
    return levels


def _plug_in(
    first: np.ndarray,
    second: np.ndarray,
    counts: np.ndarray | None,
    first_margin: np.ndarray,
    second_margin: np.ndarray,
) -> float:
    """Plug-in mutual information, in nats, of levels [p] and [p] that were met `counts` [p] times (None: once)."""
    cells, inverse = np.unique(first * len(second_margin) + second, return_inverse=True)
    joint = np.bincount(inverse, counts)
    total = joint.sum()
    expected = first_margin[cells // len(second_margin)] * second_margin[cells % len(second_margin)] / total
    return float(np.sum(joint / total * np.log(joint / expected)))
