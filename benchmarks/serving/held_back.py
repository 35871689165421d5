"""A release whose stores lack the newest behaviours of its log, and what they hold once these were appended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serving.gateway.schema import BehaviorEvent
from serving.release.manifest import Release, ReleasedTables
from serving.release.publish_release import publish_release
from serving.release.registry import Releases
from serving.saved.saved_model import read_spec
from serving.user_stores.bse.store import BseStore
from serving.user_stores.bse.table_job import build_behavior_tables
from serving.user_stores.built_from import end_of_log
from serving.user_stores.profiles.build import build_profiles
from serving.user_stores.profiles.store import ProfileStore, open_profiles

Event = tuple[str | int, int, str | int]


def split_log(log: Path, before: Path, count: int) -> list[Event]:
    """Writes the behaviour log without its newest behaviours; returns these, sorted by time."""
    before.mkdir(parents=True)
    files = sorted(log.glob("behaviors-*.parquet"))
    times = np.concatenate([pq.read_table(path)["timestamp"].combine_chunks().flatten().to_numpy() for path in files])
    until = np.sort(times)[-count] if count < len(times) else times.min()
    events: list[Event] = []
    for path in files:
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            stop = int(np.searchsorted(row["timestamp"], until))
            late = zip(row["timestamp"][stop:], row["item_id"][stop:], strict=True)
            events += [(row["user_id"], time, item) for time, item in late]
            row |= {name: values[:stop] for name, values in row.items() if isinstance(values, list)}
        pq.write_table(pa.Table.from_pylist(rows, table.schema), before / path.name)
    return sorted(events, key=lambda event: event[1])


def publish_from(models: Path, release: Release, log: Path, examples: Path, root: Path, as_of: int) -> Release:
    """Publishes the models of a release again, with stores that are built from a log.

    Args:
      models: the root of the release.
      release: whose models, sizes and items are taken.
      log: the behaviour log.
      examples: raw examples of the same ingest.
      root: the new root, or one whose stores are to be built again.
      as_of: of both stores.
    """
    for model in release.models:
        if not (root / model.path).exists():
            shutil.copytree(models / model.path, root / model.path)
    tables = []
    for held in release.tables:
        exported = root / release.model(held.model).path
        built = build_behavior_tables(exported, log, root / held.path, as_of=as_of)
        tables.append(ReleasedTables(model=held.model, version=built["version"], path=held.path))
    spec = read_spec(str(root / next(model.path for model in release.models if model.stage == "fine")), "ranker")
    built = build_profiles(spec, examples, log, root / "shop_profiles", as_of=as_of)
    return publish_release(
        root,
        release.models,
        items=Releases(models).path(release.catalogue),
        popular_items=Releases(models).path(release.popular_items),
        tables=tuple(tables),
        profiles=f"shop_profiles/{built['version']}",
        cascade=release.cascade,
        cascade_models=release.cascade_models,
    )


def hold_back(models: Path, raw: Path, work: Path, count: int) -> tuple[Path, Path, list[Event]]:
    """Makes two roots: one whose stores lack the newest behaviours, one whose stores hold the whole log.

    Args:
      models: a root with one release.
      raw: an ingest, `examples` and `behaviors`.
      work: where the roots are made.
      count: how many behaviours are held back.
    """
    release = Releases(models).labelled("latest")
    events = split_log(raw / "behaviors", work / "before", count)
    as_of = end_of_log(sorted(map(str, (raw / "behaviors").glob("behaviors-*.parquet"))))
    for root, log in ((work / "appended", work / "before"), (work / "rebuilt", raw / "behaviors")):
        publish_from(models, release, log, raw / "examples", root, as_of)
    return work / "appended", work / "rebuilt", events


def deliveries(events: list[Event], seed: int = 0) -> Iterator[list[BehaviorEvent]]:
    """Events in the requests of a busy shop: of 1 to 20 events, a tenth of them late, a tenth delivered twice."""
    generator = np.random.default_rng(seed)
    places = np.arange(len(events)) + np.where(generator.random(len(events)) < 0.1, 200, 0)
    twice = np.flatnonzero(generator.random(len(events)) < 0.1)
    order = np.argsort(np.concatenate([places, twice + generator.integers(0, 300, len(twice))]), kind="stable")
    which = np.concatenate([np.arange(len(events)), twice])[order]
    start = 0
    while start < len(which):
        size = int(generator.integers(1, 21))
        part = [events[place] for place in which[start : start + size]]
        yield [BehaviorEvent(user=user, timestamp=time, item_id=item) for user, time, item in part]
        start += size


def differences(appended: Path, rebuilt: Path) -> dict[str, int]:
    """Compares the stores of two roots, record by record and bit by bit.

    Returns:
      How many users have a table and a profile, and of how many these differ.
    """
    found = {}
    releases = [Releases(root).labelled("latest") for root in (appended, rebuilt)]
    for name in ("tables", "profiles"):
        with _store(appended, releases[0], name) as here, _store(rebuilt, releases[1], name) as there:
            users = set(here.users()) | set(there.users())
            differ = sum(here.record(user) != there.record(user) for user in users)
        found |= {name: len(users), f"{name}_that_differ": differ}
    return found


def _store(root: Path, release: Release, name: str) -> BseStore | ProfileStore:
    if name == "profiles":
        return open_profiles(str(root / release.profiles))
    (tables,) = release.tables
    return BseStore(root / tables.path, tables.version)
