"""The batch job of profiles: users' request features and newest behaviours, from an ingest into the store.

Users and behaviours lie in the same shards: Beam runs over them, and memory holds the users of one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from features import storage
from features.arrow import open_parquet
from features.beam_runner import run_counted
from features.errors import InputError, NotFoundError
from features.examples.shards import USERS_DIR
from features.histories.windows import ITEM, TIMESTAMP, USER
from features.spec import KEY_COLUMNS, FeatureSpec
from serving.user_stores.behavior_window import BehaviorWindow
from serving.user_stores.builds import RecordWriter, StoreBuild, make_current
from serving.user_stores.built_from import end_of_log, fingerprint
from serving.user_stores.environment import StoreError
from serving.user_stores.profiles.record import ProfileLayout
from serving.user_stores.profiles.store import FORMAT, ProfileStore

COUNTERS = ("users", "users_without_features", "behaviors")
_READ_USERS = 1024

Shard = tuple[str | None, str | None]


def profile_layout(spec: FeatureSpec, length: int | None = None) -> ProfileLayout:
    """Returns what profiles of a spec hold.

    Args:
      spec: the features.
      length: behaviours that are kept; by default those of the short history.
    """
    features = tuple(each.name for each in spec.of_table("users") if each.column not in KEY_COLUMNS)
    history = spec.history
    if history is None:
        return ProfileLayout(features, (TIMESTAMP, ITEM), 0)
    columns = tuple(dict.fromkeys((TIMESTAMP, ITEM, *history.features)))
    return ProfileLayout(features, columns, history.short_length if length is None else length)


def profile_version(spec: FeatureSpec) -> str:
    """Returns a fingerprint of what profiles of a spec mean: the same features, in the same form."""
    layout = profile_layout(spec, 0)
    names = [*layout.features, *(name for name in layout.columns if name in [f.name for f in spec.features])]
    said = [(name, spec[name].dtype, spec[name].multi_valued) for name in names]
    return hashlib.sha256(json.dumps([layout.features, layout.columns, said]).encode()).hexdigest()[:32]


def build_profiles(
    spec: FeatureSpec,
    examples_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    store_dir: str | Path,
    *,
    length: int | None = None,
    as_of: int | None = None,
    root=None,
    force: bool = False,
) -> dict[str, Any]:
    """Builds the profiles of all users and publishes them as the store's current version.

    If the store holds this version, built from the same files in the same way, nothing is done.

    Args:
      spec: the features of the ingest.
      examples_dir: raw examples, with `users/users-*.parquet` where there is a users table.
      behaviors_dir: the raw behaviour log, `behaviors-*.parquet`.
      store_dir: the store with all its versions.
      length: behaviours of a profile, the newest; by default those of the short history.
      as_of: UTC milliseconds: behaviours before it are taken in; by default just after the newest of the log.
      root: a Beam pipeline whose runner and options are taken; in-process by default.
      force: build even if nothing has changed.

    Returns:
      `{"built": bool, "version", "as_of", "length", "users", "users_without_features", "behaviors"}`; the counts are
      those of the build that the store holds.

    Raises:
      NotFoundError: if there is no behaviour log.
      InputError: if users and behaviours are of two ingests, or the log does not fit the spec.
      StoreError: if another process builds here.
    """
    users = storage.entries(storage.join(examples_dir, USERS_DIR), "users-*.parquet")
    behaviors = storage.entries(behaviors_dir, "behaviors-*.parquet")
    if not behaviors:
        raise NotFoundError(f"`behaviors_dir` holds no behaviors-*.parquet: ingest first. Received: {behaviors_dir}")
    layout, version = profile_layout(spec, length), profile_version(spec)
    as_of = end_of_log(behaviors) if as_of is None else as_of
    source = fingerprint([*users, *behaviors], [version, layout.length, as_of])
    found = None if force else _built_from(store_dir, version, source)
    if found is not None:
        make_current(store_dir, version)
        return {"built": False, **found}
    with StoreBuild(store_dir, version) as build:
        counted = run_counted(_shards(users, behaviors), _WriteProfiles(layout, build.writer, as_of), root)
        counts = {name: counted[name] for name in COUNTERS}
        facts = {"version": version, "as_of": as_of, "length": layout.length, **counts}
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        shape = {"features": layout.features, "columns": layout.columns, "length": layout.length}
        build.publish_with(
            {"format": FORMAT, **shape, "source": source, "as_of": as_of, "built_at": now, "facts": facts}
        )
    return {"built": True, **facts}


def _shards(users: list[str], behaviors: list[str]) -> list[Shard]:
    """Pairs the files of one shard. Raises `InputError` if they are of different numbers of shards."""
    paths = {"users": {}, "behaviors": {}}
    for name, files in (("users", users), ("behaviors", behaviors)):
        paths[name] = {storage.name(path).removeprefix(f"{name}-"): path for path in files}
    if strange := sorted(set(paths["users"]) - set(paths["behaviors"])):
        raise InputError(f"there is no behaviors-{strange[0]} beside users-{strange[0]}: they are of two ingests.")
    return [(paths["users"].get(shard), path) for shard, path in sorted(paths["behaviors"].items())]


class _WriteProfiles:
    """Writes the profiles of a shard: of users with behaviours, then of the others (`CountedWork`)."""

    def __init__(self, layout: ProfileLayout, writer: RecordWriter, as_of: int):
        self._layout, self._writer, self._as_of = layout, writer, as_of

    def work(self, shard: Shard) -> Counter[str]:
        users_path, behaviors_path = shard
        known, counts = dict(_users(users_path, self._layout.features)), Counter[str]()
        for batch in _batches(behaviors_path, (USER, *self._layout.columns)):
            columns = [batch[name].to_pylist() for name in self._layout.columns]
            profiles = []
            for user, *values in zip(batch[USER].to_pylist(), *columns, strict=True):
                window = self._window(dict(zip(self._layout.columns, values, strict=True)))
                counts["users_without_features"] += user not in known
                counts["behaviors"] += len(window)
                profiles.append((user, self._layout.encode(known.pop(user, {}), window)))
            self._writer.put(profiles)
            counts["users"] += len(profiles)
        nothing = self._layout.empty_window()
        self._writer.put([(user, self._layout.encode(features, nothing)) for user, features in known.items()])
        counts["users"] += len(known)
        return counts

    def close(self) -> None:
        self._writer.close()

    def _window(self, columns: dict[str, list]) -> BehaviorWindow:
        times = columns[TIMESTAMP]
        if times and times[-1] >= self._as_of:
            stop = sum(time < self._as_of for time in times)
            columns = {name: values[:stop] for name, values in columns.items()}
        return BehaviorWindow.of_log(columns, self._layout.length)


def _users(path: str | None, features: tuple[str, ...]) -> Iterator[tuple[str | int, dict[str, Any]]]:
    if path is None:
        return
    for batch in _batches(path, (USER, *features)):
        for row in batch.to_pylist():
            yield row.pop(USER), row


def _batches(path: str, names: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    with open_parquet(path) as file:
        for name in names:
            if name not in file.schema_arrow.names:
                raise InputError(f"{path} has no column `{name}`: ingest with this spec again.")
        yield from file.iter_batches(_READ_USERS, columns=list(names))


def _built_from(store_dir: str | Path, version: str, source: str) -> dict | None:
    """The facts of the store's build of a version, if it was made from `source`."""
    try:
        with ProfileStore(store_dir, version) as store:
            return store.header["facts"] if store.header.get("source") == source else None
    except (FileNotFoundError, StoreError):
        return None
