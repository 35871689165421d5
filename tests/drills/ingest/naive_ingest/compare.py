"""What an ingest wrote, in the form of `Naive`, and where the two differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from features.ingest.config import IngestConfig
from features.ingest.counts import IngestCounts
from features.spec import FeatureSpec
from tests.drills.ingest.naive_ingest.ingest import FIELDS, Naive


def rows_of(folder: Path, pattern: str) -> list[tuple[Path, dict[str, Any]]]:
    """Returns the rows of the files that match, each with its file."""
    return [(file, row) for file in sorted(folder.glob(pattern)) for row in pq.ParquetFile(file).read().to_pylist()]


def letters_of(folder: Path) -> list[dict[str, Any]]:
    return [row for _, row in rows_of(folder, "dead_letters-*.parquet")]


def requests_of(examples: Path, behaviors: Path) -> dict[str, dict[str, Any]]:
    """Returns the requests by id, each with its `split` and `history`; histories follow the pointers of the files."""
    users: dict[tuple[str, int], dict] = {}
    seen: dict[Path, int] = {}
    for file, row in rows_of(behaviors, "behaviors-*.parquet"):
        shard = file.name.split("-")[1]
        users[shard, seen.setdefault(file, 0)] = row
        seen[file] += 1
    found = {}
    for file, row in rows_of(examples, "Split-*/requests-*.parquet"):
        request, index, end = row.pop("request_id"), row.pop("user_index"), row.pop("history_end")
        assert request not in found, f"request {request} stands twice"
        history = []
        if index >= 0:
            user = users[file.name.split("-")[1], index]
            assert user["user_id"] == row["user_id"], f"request {request} points to another user"
            names = [name for name in user if name not in ("user_id", "timestamp")]
            history = [
                (user["timestamp"][i], {name: user[name][i] if user[name] is not None else None for name in names})
                for i in range(end)
            ]
        row |= {"split": file.parent.name.removeprefix("Split-"), "history": history}
        found[request] = row
    return found


def differences(naive: Naive, out: Path, config: IngestConfig, spec: FeatureSpec) -> list[str]:
    """Returns where what an ingest wrote in `out` (examples, behaviors, dead) is not what the naive one says."""
    found: list[str] = []

    def compare(what: str, ours: Any, theirs: Any) -> None:
        if not same(ours, theirs):
            found.append(f"{what}: ingest {ours!r}, naive {theirs!r}")

    counts = IngestCounts.load(out / "examples")
    for table, expected in naive.tables.items():
        given = counts.tables[table].model_dump()
        for field in FIELDS:
            if field in given:
                compare(f"{table}.{field}", given[field], expected[field])
    for name, expected in naive.plan.items():
        compare(name, getattr(counts, name), expected)
    compare("unknown_items", counts.unknown_items, naive.unknown_items)
    compare("unknown_users", counts.unknown_users, naive.unknown_users)

    letters = sorted((x["table"], x["source"], x["line"] or 0, x["reason"]) for x in letters_of(out / "dead"))
    expected = sorted((x.table, x.file, x.line, x.reason) for x in naive.letters)
    if letters != expected:
        more, fewer = ([x for x in a if x not in b] for a, b in ((letters, expected), (expected, letters)))
        found.append(f"dead letters: only ingest {more[:5]}, only naive {fewer[:5]}")

    requests = requests_of(out / "examples", out / "behaviors")
    compare("requests", sorted(requests), sorted(naive.requests))
    for request in sorted(requests.keys() & naive.requests.keys()):
        ours, theirs = requests[request], naive.requests[request]
        for name in sorted(ours.keys() | theirs.keys()):
            compare(f"request {request!r} {name}", ours.get(name, "no column"), theirs.get(name, "no column"))
    log = {row["user_id"]: row for _, row in rows_of(out / "behaviors", "behaviors-*.parquet")}
    compare("users with behaviours", sorted(map(str, log)), sorted(map(str, naive.behaviors)))
    return found


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values are equal, NaN being equal to null and labels being float32."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or math.isclose(ours, theirs, rel_tol=1e-6)
    return type(ours) is type(theirs) and ours == theirs
