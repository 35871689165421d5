"""Fits the feature encoding: one pass over the train split, and over nothing else.

Each file is read once, column by column in batches, into one state a feature (`features/encoding/states.py`); the
states of the files are merged and the vocabularies cut. Features of scope `request` count once a request, features of
scope `candidate` once a candidate. Memory: one batch, the distinct terms of a file, and those of a group: in a large
train split terms are merged and cut in groups of their hashes, before what is left of all groups meets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
import pyarrow as pa

from features import storage
from features.arrow import is_list, open_parquet
from features.beam_runner import make_pipeline
from features.encoding.feature_encoding import FeatureEncoding, numbers, terms
from features.encoding.retention import Before, with_terms_before
from features.encoding.states import MomentsState, QuantileState, TermCounts
from features.errors import InputError, NotFoundError
from features.spec import Feature, FeatureSpec
from features.storage import AnyPath

TRAIN_SPLIT = "Split-train"
_BATCH_REQUESTS = 16_384
_GROUP_BYTES = 256 << 20
"""Of Parquet, for each group of terms."""


class FeatureState:
    """All that one feature's encoding needs to know of the train split.

    Moments stay apart by file and are merged in the order of the files' names at the end: sums of floats depend on
    their order, and the same files must always give the same encoding.
    """

    def __init__(self, feature: Feature):
        self.feature = feature
        self.terms = TermCounts() if feature.vocabulary is not None else None
        self.quantiles = QuantileState() if feature.transform == "bucketize" else None
        self.moments: dict[str, MomentsState] = {}

    def update(self, values: pa.Array, file: str) -> None:
        """Adds raw values, in lists of any depth, of the named file."""
        while is_list(values.type):
            values = values.flatten()
        if self.terms is not None:
            self.terms.update(_dictionary_of_terms(values, self.feature))
        if self.feature.kind == "numeric":
            x = numbers(values, self.feature)
            self.moments.setdefault(file, MomentsState()).update(x)
            if self.quantiles is not None:
                self.quantiles.update(x)

    def split(self, groups: int) -> list[FeatureState]:
        """Returns the state by groups of its terms; the first holds all else."""
        if groups == 1:
            return [self]
        parts = [FeatureState(self.feature) for _ in range(groups)]
        parts[0].quantiles, parts[0].moments = self.quantiles, self.moments
        if self.terms is not None:
            for part, terms in zip(parts, self.terms.split(groups), strict=True):
                part.terms = terms
        return parts

    def prune(self) -> None:
        """Drops terms that the vocabulary will not hold, of a group that all files were merged into."""
        if self.terms is not None and self.feature.vocabulary is not None:
            self.terms.prune(self.feature.vocabulary)

    def merge(self, other: FeatureState) -> None:
        if self.terms is not None and other.terms is not None:
            self.terms.merge(other.terms)
        if self.quantiles is not None and other.quantiles is not None:
            self.quantiles.merge(other.quantiles)
        for file, moments in other.moments.items():
            self.moments.setdefault(file, MomentsState()).merge(moments)

    def total_moments(self) -> MomentsState:
        total = MomentsState()
        for file in sorted(self.moments):
            total.merge(self.moments[file])
        return total


@dataclasses.dataclass(eq=False, repr=False)
class FitEncoding(beam.PTransform):
    """Fits the feature encoding on `Split-train` and saves it; applied to a pipeline.

    It gives one element, the written directory.

    Attributes:
      examples_dir: raw examples (docs/reference/data_formats.md); the files must exist when the transform is applied,
        else it raises `NotFoundError`.
      spec: the features. A file that lacks one raises `InputError` while the pipeline runs.
      output_dir: where `FeatureEncoding.save` writes.
      before: the encoding whose terms may stay (`VocabularyRule.ttl_days`), and the day; None: there is none.
    """

    examples_dir: AnyPath
    spec: FeatureSpec
    output_dir: AnyPath
    before: Before | None = None

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        files = train_files(self.examples_dir)
        groups = 1 + sum(map(storage.size, files)) // _GROUP_BYTES
        states = (
            root
            | "TrainFiles" >> beam.Create(files, reshuffle=False)
            | "SummariseFile" >> beam.FlatMap(summarise_file, self.spec)
        )
        if groups > 1:
            states = (
                states
                | "Groups" >> beam.FlatMap(_by_group, groups)
                | "MergeGroups" >> beam.CombinePerKey(_MergeStates())
                | "PruneGroups" >> beam.Map(_pruned)
            )
        return (
            states
            | "MergeSummaries" >> beam.CombineGlobally(_MergeStates())
            | "SaveEncoding" >> beam.Map(_save, self.spec, storage.join(self.output_dir), self.before)
        )


def fit_encoding(examples_dir: AnyPath, spec: FeatureSpec, output_dir: AnyPath) -> FeatureEncoding:
    """Fits the feature encoding in this process, saves it to `output_dir` and returns it; see `FitEncoding`."""
    with make_pipeline() as root:
        _ = root | FitEncoding(examples_dir, spec, output_dir)
    return FeatureEncoding.load(output_dir)


def train_files(examples_dir: AnyPath) -> list[str]:
    """Returns the files of the train split. Raises `NotFoundError` if there are none."""
    files = storage.entries(storage.join(examples_dir, TRAIN_SPLIT), "*.parquet")
    if not files:
        raise NotFoundError(
            f"`examples_dir` holds no {TRAIN_SPLIT}/*.parquet: ingest logs first. Received: {examples_dir}"
        )
    return files


def summarise_file(path: str, spec: FeatureSpec) -> Iterator[dict[str, FeatureState]]:
    """Reads one raw file, yields its states by feature."""
    states = {feature.name: FeatureState(feature) for feature in spec.features}
    with open_parquet(path) as file:
        absent = [name for name in states if name not in file.schema_arrow.names]
        if absent:
            raise InputError(f"{path} has no column for the features {', '.join(absent)}: ingest with this spec again.")
        empty = file.schema_arrow.empty_table()
        for batch in file.iter_batches(_BATCH_REQUESTS, columns=list(states)):
            for name, state in states.items():
                state.update(batch[name], storage.name(path))
        if not file.metadata.num_rows:
            for name, state in states.items():
                state.update(empty[name].combine_chunks(), storage.name(path))
    yield states


def encoding_of(spec: FeatureSpec, states: dict[str, FeatureState]) -> FeatureEncoding:
    """Cuts the vocabularies and reads moments and quantiles off the merged states."""
    vocabularies, moments, boundaries = {}, {}, {}
    for feature in spec.features:
        state = states[feature.name]
        if feature.vocabulary is not None and state.terms is not None:
            vocabularies[feature.name] = state.terms.cut(feature.vocabulary)
        if feature.kind == "numeric":
            moments[feature.name] = state.total_moments().result()
        if state.quantiles is not None:
            boundaries[feature.name] = state.quantiles.boundaries(feature.num_buckets)
    return FeatureEncoding(spec, vocabularies, moments, boundaries)


class _MergeStates(beam.CombineFn):
    """Merges `{feature: FeatureState}`; the accumulator of nothing is the empty dict."""

    def create_accumulator(self) -> dict[str, FeatureState]:
        return {}

    def add_input(self, accumulator: dict, states: dict) -> dict:
        return self.merge_accumulators([accumulator, states])

    def merge_accumulators(self, accumulators: Iterable[dict]) -> dict:
        merged: dict[str, FeatureState] = {}
        for states in accumulators:
            if not merged:
                merged = states
                continue
            for name, state in states.items():
                merged[name].merge(state)
        return merged

    def extract_output(self, accumulator: dict) -> dict:
        return accumulator


def _by_group(states: dict[str, FeatureState], groups: int) -> Iterator[tuple[int, dict[str, FeatureState]]]:
    split = {name: state.split(groups) for name, state in states.items()}
    for group in range(groups):
        yield group, {name: parts[group] for name, parts in split.items()}


def _pruned(group: tuple[int, dict[str, FeatureState]]) -> dict[str, FeatureState]:
    for state in group[1].values():
        state.prune()
    return group[1]


def _save(states: dict[str, FeatureState], spec: FeatureSpec, output_dir: str, before: Before | None) -> str:
    encoding = encoding_of(spec, states)
    (encoding if before is None else with_terms_before(encoding, before)).save(output_dir)
    return output_dir


def _dictionary_of_terms(values: pa.Array, feature: Feature) -> pa.Array:
    """As `terms`, of a dictionary array too, whose few terms are then looked at instead of its rows."""
    if not pa.types.is_dictionary(values.type):
        return terms(values, feature)
    return pa.DictionaryArray.from_arrays(values.indices, terms(values.dictionary, feature))
