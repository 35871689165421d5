"""The requests that an export is tried with: real rows as its signatures take them, by kind of model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from features.arrow import lists_of, one_chunk
from features.spec import FeatureSpec
from serving.requests.tensors import (
    candidate_counts,
    flatten_candidates,
    item_tensor,
    request_tensors,
    slate_tensors,
    to_slates,
)
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import COARSE_RANK, RETRIEVE, SERVING_DEFAULT
from serving.validation.comparison import SAME_GRAPH, THROUGH_TABLES
from serving.validation.trained_answers import TRAINED_EMBEDDING, TRAINED_LOGIT

Tensors = dict[str, np.ndarray]


class RankerTrial:
    """How a ranker is tried: by `serving_default`, whose scores are those of the trained model.

    Args:
      saved: the export, opened.
      answers: its rows with what the trained model answered (`serving.validation.trained_answers`).

    Attributes:
      signature: that a load asks.
      tolerance: of its answers against those of the trained model.
    """

    signature = SERVING_DEFAULT

    def __init__(self, saved: SavedRanker, answers: pa.Table):
        self._saved, self._rows = saved, answers
        self._by_table = saved.history is not None and saved.history.simhash is not None
        self.tolerance = THROUGH_TABLES if self._by_table else SAME_GRAPH

    def requests(self) -> Iterator[tuple[pa.Table, Tensors]]:
        """Yields rows and the inputs of `serving_default` that they make: all in one request, then each alone."""
        yield self._rows, self.tensors(self._rows)
        for number in range(len(self._rows)):
            row = self._rows.slice(number, 1)
            yield row, self.tensors(row)

    def tensors(self, rows: pa.Table) -> Tensors:
        """Inputs of `serving_default`."""
        saved = self._saved
        sums = None
        if self._by_table:
            alone = [rows.slice(number, 1) for number in range(len(rows))]
            sums = np.stack([saved.long_table(row).sums for row in alone])
        return slate_tensors(saved.spec, rows, saved.history, sums, names=saved.inputs(SERVING_DEFAULT))

    def expected(self, rows: pa.Table) -> Tensors:
        """What the trained model answered, as `serving_default` should: scores of the candidates one after another."""
        logits = one_chunk(rows[TRAINED_LOGIT]).flatten().to_numpy(zero_copy_only=False)
        return {"score": (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)}

    def comparable(self, rows: pa.Table, outputs: Tensors) -> Tensors:
        """Outputs of `serving_default` in the form of `expected`."""
        counts = candidate_counts(rows)
        return {"score": np.concatenate([grid[:n] for grid, n in zip(outputs["score"], counts, strict=True)])}

    def load(self, candidates: int) -> list[Tensors]:
        """Requests of `signature`, a row each, with so many candidates: real ones, repeated where there are fewer."""
        rows = [self._rows.slice(number, 1) for number in range(len(self._rows))]
        return [self.tensors(widened(self._saved.spec, row, candidates)) for row in rows if candidate_counts(row)[0]]


class CoarseTrial(RankerTrial):
    """How a coarse ranker is tried: as a ranker, but that a load asks for what a cascade asks it for."""

    signature = COARSE_RANK

    def load(self, candidates: int) -> list[Tensors]:
        found, names = [], self._saved.inputs(COARSE_RANK)
        for number in range(len(self._rows)):
            row = self._rows.slice(number, 1)
            if not candidate_counts(row)[0]:
                continue
            row = widened(self._saved.spec, row, candidates)
            counts = candidate_counts(row)
            items = item_tensor(flatten_candidates(one_chunk(row["item_id"]), counts, "item_id"))
            tensors = self.tensors(row) | to_slates({"item_id": items}, counts)
            found.append({name: tensors[name] for name in names})
        return found


class TwoTowerTrial(RankerTrial):
    """How a two-tower is tried: its `serving_default` embeds users, and a load asks for their items."""

    signature = RETRIEVE

    def tensors(self, rows: pa.Table) -> Tensors:
        spec, inputs = self._saved.spec, self._saved.inputs(SERVING_DEFAULT)
        read = tuple(name for name in (spec.history.features if spec.history else ()) if f"short_{name}" in inputs)
        names = self._saved.request_features(SERVING_DEFAULT)
        return request_tensors(spec, rows, names, {"short": read} if read else {})

    def expected(self, rows: pa.Table) -> Tensors:
        """What the trained model answered: the users' embeddings."""
        vectors = one_chunk(rows[TRAINED_EMBEDDING])
        return {"embedding": vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)}

    def comparable(self, rows: pa.Table, outputs: Tensors) -> Tensors:
        """Outputs of `serving_default` in the form of `expected`."""
        return {"embedding": outputs["embedding"]}

    def load(self, candidates: int) -> list[Tensors]:
        rows = [self._rows.slice(number, 1) for number in range(len(self._rows))]
        return [self.tensors(row) | {"k": np.full(1, candidates, np.int32)} for row in rows]


def trial_of(saved: SavedRanker, answers: pa.Table) -> RankerTrial:
    """Returns how an export is tried, by the signatures that it has."""
    kinds = {RETRIEVE: TwoTowerTrial, COARSE_RANK: CoarseTrial}
    kind = next((kind for signature, kind in kinds.items() if signature in saved.signatures), RankerTrial)
    return kind(saved, answers)


def widened(spec: FeatureSpec, row: pa.Table, candidates: int) -> pa.Table:
    """Returns one raw request with as many candidates as wanted: its own over and over; it must have one."""
    have = int(candidate_counts(row)[0])
    places = pa.array(np.arange(candidates) % have)
    of_candidates = {"item_id", *(feature.name for feature in spec.of_scope("candidate"))}
    columns = {}
    for name in row.column_names:
        values = one_chunk(row[name])
        # A list that is missing stands for candidates without a value, however many.
        if name in of_candidates and pa.types.is_list(values.type) and values.null_count == 0:
            values = lists_of(values.flatten().take(places), np.array([0, candidates]))
        columns[name] = values
    return pa.table(columns)
