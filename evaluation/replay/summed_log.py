"""All that is kept of a log, or of a part of it: the sums by user, those by stratum, what was left out; and its bytes.

The bytes are one Arrow record, its columns in order and compressed, so that equal sums have equal bytes. Parts are
summed apart, kept or sent, and merged in any order to the same bits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from evaluation.replay.diagnostics.strata import StrataSums
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import Summed, SumTable, UserSums
from features import storage
from features.errors import InputError

FORMAT = "clickmill summed log 1"


@dataclass(frozen=True)
class SummedLog:
    """A log, summed.

    Attributes:
      sums: by user and policy.
      strata: kind → sums by stratum; `slot` always.
      excluded: fault → rows that were left out for it.
    """

    sums: UserSums
    strata: Mapping[str, StrataSums]
    excluded: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, logged: LoggedRewards, estimators: Iterable[Summed] = (), strata: Mapping[str, Array] | None = None
    ) -> SummedLog:
        """Sums a log, or a part of it that tears no request apart.

        Args:
          logged: N rows.
          estimators: as of `UserSums.of`.
          strata: kind → [N] int keys, besides the slots.
        """
        by_kind = {"slot": logged.slot, **(strata or {})}
        found = {kind: StrataSums.of(logged, keys) for kind, keys in by_kind.items()}
        return cls(UserSums.of(logged, estimators), found, dict(logged.excluded))

    def merge(self, *others: SummedLog) -> SummedLog:
        """The sums of all parts.

        Raises:
          InputError: for parts that were summed for other policies, estimators or strata.
        """
        parts = [self, *others]
        if len({frozenset(part.strata) for part in parts}) > 1:
            raise InputError("only logs that were summed by the same strata can be merged.")
        excluded = sum((Counter(part.excluded) for part in parts), Counter())
        strata = {kind: first.merge(*(part.strata[kind] for part in others)) for kind, first in self.strata.items()}
        return SummedLog(self.sums.merge(*(part.sums for part in others)), strata, dict(excluded))

    def to_bytes(self) -> bytes:
        """The sums as bytes; equal ones of equal sums."""
        tables = {"users": self.sums.by_user} | ({"slots": self.sums.by_slot} if self.sums.by_slot else {})
        tables |= {f"strata/{kind}": strata.table for kind, strata in self.strata.items()}
        columns = {f"largest/{policy}": largest for policy, largest in self.sums.largest.items()}
        for name, table in tables.items():
            columns |= {f"{name}/user": table.user, f"{name}/slot": table.slot}
            columns |= {f"{name}:{column}": limbs.ravel() for column, limbs in table.columns.items()}
        noted = {
            "format": FORMAT,
            "policies": sorted(self.sums.policies),
            "reward_range": [each.hex() for each in self.sums.reward_range],
            "excluded": dict(sorted(self.excluded.items())),
            "tables": sorted(tables),
        }
        return _record(columns, json.dumps(noted))

    @classmethod
    def from_bytes(cls, content: bytes, source: str = "the bytes") -> SummedLog:
        """The sums of what `to_bytes` made.

        Raises:
          InputError: for bytes that are not a summed log; `source` says which.
        """
        try:
            with pa.ipc.open_file(pa.BufferReader(content)) as file:
                record, noted = file.get_batch(0), json.loads(file.schema.metadata[b"log"])
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
            noted = {}
        if noted.get("format") != FORMAT:
            raise InputError(f"{source}: not a summed log of this version. Sum the log again.")
        columns = {name: column[0].values.to_numpy() for name, column in zip(record.schema.names, record, strict=True)}
        tables = {name: _table(name, columns) for name in noted["tables"]}
        strata = {
            name.removeprefix("strata/"): StrataSums(table) for name, table in tables.items() if name[:7] == "strata/"
        }
        policies = tuple(noted["policies"])
        largest = {policy: columns[f"largest/{policy}"] for policy in policies}
        low, high = (float.fromhex(each) for each in noted["reward_range"])
        sums = UserSums(policies, tables["users"], tables.get("slots"), largest, (low, high))
        return cls(sums, strata, noted["excluded"])

    def write(self, path: storage.AnyPath) -> None:
        """Keeps the sums in a file, whole or not at all."""
        storage.write_bytes(path, self.to_bytes())

    @classmethod
    def read(cls, path: storage.AnyPath) -> SummedLog:
        """Reads what `write` kept. Raises `InputError` for a file that is none."""
        return cls.from_bytes(storage.read_bytes(path), str(path))


def _record(columns: Mapping[str, Array], noted: str) -> bytes:
    """One record, each column a list of one cell."""
    ordered = {name: columns[name] for name in sorted(columns)}
    lists = [
        pa.LargeListArray.from_arrays(pa.array([0, len(each)], pa.int64()), pa.array(each)) for each in ordered.values()
    ]
    schema = pa.schema([pa.field(name, each.type) for name, each in zip(ordered, lists, strict=True)], {"log": noted})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch(lists, schema=schema))
    return bytes(sink.getvalue())


def _table(name: str, columns: Mapping[str, Array]) -> SumTable:
    head = f"{name}:"
    limbs = {each[len(head) :]: column.reshape(3, -1) for each, column in columns.items() if each.startswith(head)}
    user, slot = (np.array(columns[f"{name}/{key}"]) for key in ("user", "slot"))
    return SumTable(user, slot, {each: np.array(column) for each, column in limbs.items()})
