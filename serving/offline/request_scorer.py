"""Scores units of requests with an exported ranker, through the same tensors and signature as a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import one_chunk
from features.errors import ClickmillError, InputError, RunError
from features.examples.request_files import ReadRequest, RequestUnit, read_requests
from features.spec import FeatureSpec
from serving.offline.prediction_parts import PartCounts, PartWriter, PredictionJob, failed_path
from serving.ranker import Ranker
from serving.release.manifest import fingerprint
from serving.requests.json_request import RequestError, row_from_request
from serving.requests.tensors import candidate_counts, slate_tensors
from serving.saved.signature_specs import ITEM_SIGNATURE, LONG_HISTORY_USED, RANK_SIGNED, SERVING_DEFAULT

#: Requests that are scored in one call, and their candidates with padding: what a batch may take of memory.
_BATCH_REQUESTS, _BATCH_CANDIDATES = 64, 1 << 15


class SlateRanker(Ranker):
    """Ranks several requests in one call of the exported signature."""

    def row(self, request: Any) -> pa.Table:
        """Turns a request into a raw row. Raises `RequestError` if it cannot be ranked."""
        return row_from_request(self.spec, request, histories=self._saved.history is not None)

    def long_sums(self, rows: Sequence[pa.Table]) -> np.ndarray | None:
        """Bucket sums of R requests' users, `[R, G, 2^tau, d]`; None: nobody has any, or the ranker reads none."""
        sums = [self._long_sums(row) for row in rows]
        known = next((each for each in sums if each is not None), None)
        return None if known is None else np.concatenate([np.zeros_like(known) if s is None else s for s in sums])

    def slates(self, rows: Sequence[pa.Table], long_sums: np.ndarray | None) -> dict[str, np.ndarray]:
        """Turns R raw rows, and what `long_sums` gave, into inputs. Raises `InputError` if a value does not fit."""
        table = pa.concat_tables([self._uniform(row) for row in rows])
        names = self._saved.inputs(SERVING_DEFAULT)
        tensors = slate_tensors(self.spec, table, self._saved.history, long_sums, names)
        if self._new_items is not None:
            ids = tensors["item_id"]
            tensors[ITEM_SIGNATURE] = self._new_items.of(ids.reshape(-1)).reshape(*ids.shape, -1)
        return tensors

    def score_slates(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores R requests: `score` and `logit` `[R, N]`, N being the longest slate; `long_history_used` `[R]`."""
        return self._saved.run(SERVING_DEFAULT if self._new_items is None else RANK_SIGNED, tensors)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(feature.name for feature in self.spec.features)

    def _uniform(self, row: pa.Table) -> pa.Table:
        """Ids that are no features have the type that each request gives them; the ranker reads none."""
        if "user_id" not in self._names:
            row = row.drop(["user_id"])
        if "item_id" not in self._names:
            place = row.schema.get_field_index("item_id")
            row = row.set_column(place, "item_id", row["item_id"].cast(pa.list_(pa.string())))
        return row


def scores_schema(spec: FeatureSpec) -> pa.Schema:
    """Returns the columns of scores; ids of items have the type that the ranker's spec gives them."""
    dtypes = {feature.name: feature.dtype for feature in spec.features}
    return pa.schema(
        [
            ("request_id", pa.string()),
            ("file", pa.string()),
            ("line", pa.int64()),
            ("index", pa.int32()),
            ("item_id", pa.int64() if dtypes.get("item_id") == "int64" else pa.string()),
            ("score", pa.float32()),
            ("logit", pa.float32()),
            ("long_history_used", pa.bool_()),
            ("model", pa.string()),
            ("model_version", pa.int64()),
            ("release", pa.string()),
        ]
    )


def tables_build(header: dict) -> str:
    """Returns a digest of what a store says of its build."""
    return fingerprint(header)


class RequestScorer:
    """Scores units of requests (`features.examples.score_units.UnitScorer`). It pickles without the ranker.

    Args:
      folder: of the prediction.
      job: what is scored with.
      model_dir: the ranker, one version.
      tables: the store that long histories come from; None: from the requests' own `history`.
      signatures: of items that the ranker was not trained with.
    """

    def __init__(
        self,
        folder: storage.AnyPath,
        job: PredictionJob,
        model_dir: storage.AnyPath,
        tables: storage.AnyPath | None = None,
        signatures: storage.AnyPath | None = None,
    ):
        self._folder, self._job = folder, job
        self._model_dir, self._tables, self._signatures = model_dir, tables, signatures
        self._store: Any = None

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_ranker"} | {"_store": None}

    def score(self, unit: RequestUnit) -> None:
        """Scores a unit into its files, or writes down why it cannot be read."""
        try:
            with PartWriter(self._folder, self._job, unit, scores_schema(self._ranker.spec)) as part:
                for requests, rows in _batches(self._rows(unit, part)):
                    self._score(unit, requests, rows, part)
                unit.check_unchanged()
        except ClickmillError as error:
            # A runner would make a RuntimeError of it, with a traceback for a message.
            said = {"message": str(error), "exit_code": error.exit_code}
            storage.write_text(failed_path(self._folder, unit), json.dumps(said))

    def close(self) -> None:
        """Closes the store."""
        if self._store is not None:
            self._store.close()
            self._store = None
            self.__dict__.pop("_ranker", None)

    @cached_property
    def _ranker(self) -> SlateRanker:
        if self._tables is None:
            return SlateRanker(self._model_dir, signatures=self._signatures)
        from serving.user_stores.bse.store import BseStore

        self._store = BseStore(self._tables, self._job.tables_version)
        if tables_build(self._store.header) != self._job.tables_build:
            raise RunError(f"{self._tables}: the bucket tables were built again since the job began: start it again.")
        return SlateRanker(self._model_dir, self._store.get, self._signatures)

    def _rows(self, unit: RequestUnit, part: PartWriter) -> Iterator[tuple[ReadRequest, pa.Table]]:
        """Requests with candidates, and their raw rows; the others are counted and set aside."""
        for request in read_requests(unit):
            if request.wrong is not None:
                part.reject(request, *request.wrong)
                continue
            try:
                row = self._ranker.row(request.value)
            except RequestError as error:
                part.reject(request, "bad_request", str(error))
                continue
            if request.value["candidates"]:
                yield request, row
            else:
                part.add_empty()

    def _score(self, unit: RequestUnit, requests: list[ReadRequest], rows: list[pa.Table], part: PartWriter) -> None:
        long_sums = self._ranker.long_sums(rows)
        try:
            tensors = self._ranker.slates(rows, long_sums)
        except InputError as error:
            if len(rows) == 1:
                part.reject(requests[0], "bad_request", str(error))
                return
            for request, row in zip(requests, rows, strict=True):
                self._score(unit, [request], [row], part)
            return
        part.add(*self._table(unit, requests, rows, self._ranker.score_slates(tensors)))

    def _table(
        self, unit: RequestUnit, requests: list[ReadRequest], rows: list[pa.Table], found: dict[str, np.ndarray]
    ) -> tuple[pa.Table, PartCounts]:
        """The scores of R requests as rows, and what they count."""
        counts = np.concatenate([candidate_counts(row) for row in rows])
        used = np.asarray(found.get(LONG_HISTORY_USED, np.zeros(len(rows), bool)))
        chosen = [_chosen(logits[:count], self._job.top) for logits, count in zip(found["logit"], counts, strict=True)]
        of_request = np.repeat(np.arange(len(rows)), [len(each) for each in chosen])
        index = np.concatenate(chosen)
        schema = scores_schema(self._ranker.spec)
        items = [one_chunk(row["item_id"]).flatten().cast(schema.field("item_id").type) for row in rows]
        taken = [values.take(pa.array(each)) for values, each in zip(items, chosen, strict=True)]
        total = len(index)
        columns = {
            "request_id": pa.array([_request_id(each.value) for each in requests], pa.string()).take(
                pa.array(of_request)
            ),
            "file": pa.array([unit.path] * total, pa.string()),
            "line": np.array([each.place for each in requests], np.int64)[of_request],
            "index": index.astype(np.int32),
            "item_id": pa.concat_arrays(taken),
            "score": found["score"][of_request, index],
            "logit": found["logit"][of_request, index],
            "long_history_used": used[of_request],
            "model": pa.array([self._job.model] * total, pa.string()),
            "model_version": pa.array([self._job.model_version] * total, pa.int64()),
            "release": pa.array([self._job.release] * total, pa.string()),
        }
        counted = PartCounts(
            requests=len(rows),
            scored=len(rows),
            candidates=int(counts.sum()),
            kept=total,
            without_long_history=int((~used).sum()),
        )
        return pa.table(columns, schema), counted


def _batches(
    rows: Iterator[tuple[ReadRequest, pa.Table]],
) -> Iterator[tuple[list[ReadRequest], list[pa.Table]]]:
    """Requests that are scored together: the longest slate is the width of all."""
    requests: list[ReadRequest] = []
    taken: list[pa.Table] = []
    widest = 0
    for request, row in rows:
        width = len(request.value["candidates"])
        if len(taken) == _BATCH_REQUESTS or (taken and (len(taken) + 1) * max(widest, width) > _BATCH_CANDIDATES):
            yield requests, taken
            requests, taken, widest = [], [], 0
        requests.append(request)
        taken.append(row)
        widest = max(widest, width)
    if taken:
        yield requests, taken


def _chosen(logits: np.ndarray, top: int | None) -> np.ndarray:
    """Places of candidates: all in their order, or the best first, equal ones in their order."""
    return np.arange(len(logits)) if top is None else np.argsort(-logits, kind="stable")[:top]


def _request_id(request: dict[str, Any]) -> str | None:
    found = request.get("request_id")
    if found is None:
        return None
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode()
