"""A day's work: the examples of one span, made once for every window that holds it.

They lie in `<store>/<day>/<key>-<attempt>/`, and `<store>/<day>/<key>.json`, written last, says where. The key is that
of all that they are made of: the files that they are read from, configuration, features, and the code.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from features import storage
from features.config import Strict
from features.ingest.checking.kept import KeptFeatures
from features.ingest.config import IngestConfig, SplitConfig
from features.ingest.counts import IngestCounts
from features.ingest.ingest_logs import IngestLogs
from features.ingest.outputs import drop_scratch
from features.ingest.reading.fingerprint import fingerprint_paths
from features.ingest.spans.accounts import SpanAccount
from features.ingest.spans.config import at_day
from features.ingest.spans.day_folders import Days
from features.ingest.spans.snapshots import SpanPlan
from features.spec import FeatureSpec

NUM_SHARDS = 8
"""Of a log by day where the configuration says nothing: by the size of a day, days would not fit together."""

_CODE = ("ingest", "encoding/hashing.py", "arrow.py", "spec.py")
"""What decides about a day's bytes, in `features/`."""

_ENCODED: Any = {
    "embedding_dim": True,
    "features": {"__all__": {"vocabulary", "hash_buckets", "transform", "num_buckets", "embedding_dim"}},
    "history": {"short_length", "long_length"},
}
"""What a spec says of the encoding alone: raw examples do not depend on it."""

MakePipeline = Callable[[], beam.Pipeline]


class DayWork(Strict):
    """Where a day's work lies, and what it was made of.

    Attributes:
      folder: of `examples`, `behaviors` and `dead_letters`, beside the record that this is.
      account: of its impressions.
      counts: of the ingestion.
      has_behaviors: whether its behaviours are its own: a day without a file of `behaviors` has none.
      inputs: fingerprint of the files that were read, by table.
    """

    folder: str
    account: SpanAccount
    counts: IngestCounts
    has_behaviors: bool = True
    inputs: dict[str, str]

    def of(self, store: str, part: str) -> str:
        """Returns the folder of a part."""
        return storage.join(store, self.account.span.isoformat(), self.folder, part)


@dataclasses.dataclass(frozen=True)
class DayWorks:
    """The work of days of a log, done where it is not there yet.

    Attributes:
      config: of the ingestion, with its window.
      spec: the features.
      kept: what models of other specs read besides.
      make_pipeline: a new Beam pipeline for each day that has to be done.
    """

    config: IngestConfig
    spec: FeatureSpec
    kept: KeptFeatures
    make_pipeline: MakePipeline

    @property
    def store(self) -> str:
        """Where the work of all days is kept."""
        return self.config.days.store

    @property
    def num_shards(self) -> int:
        """Of every day."""
        return self.config.num_shards or NUM_SHARDS

    def get(self, day: datetime.date, days: Days) -> DayWork:
        """Returns a day's work, which is done if it is not there. Raises as `Days.plan` and `IngestLogs`."""
        plan, read = days.plan(day)
        inputs = self._inputs(read)
        narrowed = self._narrowed(plan)
        key = self._key(narrowed, plan, inputs)
        record = storage.join(self.store, day.isoformat(), f"{key}.json")
        if storage.is_file(record):
            return DayWork.model_validate_json(storage.read_text(record))
        attempt = f"{key}-{uuid.uuid4().hex[:8]}"
        folder = storage.join(self.store, day.isoformat(), attempt)
        try:
            counts = self._ingest(narrowed, plan, read, folder)
        except BaseException:
            storage.delete(folder)
            raise
        work = DayWork(
            folder=attempt,
            account=SpanAccount.of(day, key, counts),
            counts=counts,
            has_behaviors="behaviors" not in read or day in read["behaviors"],
            inputs=inputs,
        )
        storage.write_text(record, work.model_dump_json(indent=2) + "\n")
        return work

    def _ingest(
        self, config: IngestConfig, plan: SpanPlan, days: Mapping[str, Sequence[datetime.date]], folder: str
    ) -> IngestCounts:
        parts = [storage.join(folder, part) for part in ("examples", "behaviors", "dead_letters")]
        with self.make_pipeline() as root:
            _ = root | IngestLogs(config, self.spec, *parts, kept=self.kept, span=plan, days=days)
        drop_scratch(parts[0])
        counts = IngestCounts.load(parts[0])
        counts.check_balance()
        return counts

    def _narrowed(self, plan: SpanPlan) -> IngestConfig:
        """Returns the configuration of a span's ingestion; the window splits, by all its days."""
        split = self.config.split if self.config.split.by == "column" else SplitConfig(eval_fraction=0, test_fraction=0)
        changes: dict[str, Any] = {
            "split": split,
            "end_of_log": plan.end,
            "num_shards": self.num_shards,
            "window": None,
        }
        return self.config.model_copy(update=changes)

    def _inputs(self, read: Mapping[str, Sequence[datetime.date]]) -> dict[str, str]:
        found = {}
        for name, table in self.config.tables.given().items():
            paths = [at_day(table.path, day) for day in read[name]] if name in read else [table.path]
            found[name] = fingerprint_paths(paths)
        return found

    def _key(self, config: IngestConfig, plan: SpanPlan, inputs: Mapping[str, str]) -> str:
        # What decides whether a log is good enough, and how many days a window has, changes no example.
        free = {"limits", "max_bad_row_fraction", "spans"}
        facts = {
            "code": code_version(),
            "config": config.model_dump(mode="json", exclude=free),
            "spec": self.spec.model_dump(mode="json", exclude=_ENCODED),
            "kept": self.kept.model_dump(mode="json"),
            "plan": dataclasses.asdict(plan),
            "inputs": dict(inputs),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def prune_days(store: storage.AnyPath, before: datetime.date) -> list[str]:
    """Deletes the work of the days before one. Returns their folders; windows that need them do the work again."""
    old = [folder for folder in storage.entries(store) if storage.name(folder) < before.isoformat()]
    for folder in old:
        storage.delete(folder)
    return old


@functools.cache
def code_version() -> str:
    """Returns a digest of the sources that decide about a day's bytes."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for part in _CODE:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
