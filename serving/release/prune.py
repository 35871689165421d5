"""Pruning: old releases, and what they alone named, are deleted; what a label names never is.

A manifest is withdrawn first: copied to `releases/withdrawn/`, then deleted where readers look. Only then what it named
goes, and the copy last: a prune that is killed at any moment leaves whole releases, and the next one ends its work.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

from features import storage
from features.config import parse_model
from features.errors import InputError
from serving.release.contents import GRAPH_FILE
from serving.release.decisions import decide
from serving.release.labels import label_moves, rollback_target
from serving.release.lock import locked
from serving.release.manifest import Release
from serving.release.registry import Releases
from serving.user_stores.builds import CURRENT, remove_version

WITHDRAWN_FOLDER = "withdrawn"


@dataclass(frozen=True)
class PrunePlan:
    """What a prune deletes.

    Attributes:
      kept: {id of a release that stays: why}, the newest first.
      releases: ids of those that go, the newest first; among them what an earlier prune did not end.
      models: folders of versions of models that no kept release names, as `shop_autoint/17`.
      tables: versions of stores, of bucket tables and of profiles, that no kept release names, as
        `shop_autoint_bse/1f2e…`, but those that a store calls its current.
      catalogues: files of items, also of the most clicked ones, that no kept release names.
      num_bytes: of the models and catalogues together.
    """

    kept: dict[str, str]
    releases: tuple[str, ...]
    models: tuple[str, ...]
    tables: tuple[str, ...]
    catalogues: tuple[str, ...]
    num_bytes: int


def plan_prune(root: storage.AnyPath, keep: int) -> PrunePlan:
    """Returns what `prune` would delete. Versions that no release ever named are left alone: they were pushed alone.

    Args:
      root: the serving root.
      keep: how many releases of each pipeline stay, the newest.

    Raises:
      InputError: if `keep` is not positive.
      SpecError: if a manifest, the labels or their history are damaged.
    """
    if keep < 1:
        raise InputError(f"`keep` must be positive: the newest release stays. Received: {keep}")
    releases = Releases(root)
    listed = releases.all()
    kept = _kept(releases, listed, keep)
    stay = [release for release in listed if release.id in kept]
    go = [release for release in listed if release.id not in kept]
    go += [release for release in _withdrawn(releases) if release.id not in {each.id for each in listed}]
    models, tables, catalogues = (tuple(sorted(of(go) - of(stay))) for of in (_models_of, _tables_of, _catalogues_of))
    tables = tuple(each for each in tables if not _is_current(releases, each))
    held = [releases.path(model) for model in models if storage.is_folder(releases.path(model))]
    files = [file for folder in held for file in storage.files_under(folder)]
    files += [path for path in map(releases.path, catalogues) if storage.is_file(path)]
    return PrunePlan(
        kept={release.id: kept[release.id] for release in stay},
        releases=tuple(release.id for release in go),
        models=models,
        tables=tables,
        catalogues=catalogues,
        num_bytes=sum(map(storage.size, files)),
    )


def prune(root: storage.AnyPath, keep: int) -> PrunePlan:
    """Deletes releases but the newest, and what they alone named; returns what was deleted.

    What a label names stays, and what each label would go back to.

    Args:
      root: the serving root.
      keep: how many releases of each pipeline stay, the newest.

    Raises:
      InputError: if `keep` is not positive.
      SpecError: if a manifest, the labels or their history are damaged; nothing is deleted.
    """
    releases = Releases(root)
    with locked(root):
        plan = plan_prune(root, keep)
        if plan.releases:
            decide(root, "prune", f"all but {keep}", evidence={"releases": plan.releases, "kept": plan.kept})
        for release_id in plan.releases:
            _withdraw(releases, release_id)
        for model in plan.models:
            folder = releases.path(model)
            storage.delete(storage.join(folder, GRAPH_FILE))  # First: what is half deleted is no version any more.
            storage.delete(folder)
        for tables in plan.tables:
            with contextlib.suppress(FileNotFoundError):
                remove_version(*_store_and_version(releases, tables))
        for catalogue in plan.catalogues:
            storage.delete(storage.parent(releases.path(catalogue)))
        # All copies, also of what was killed between copying and deleting and is a release still.
        storage.delete(storage.join(releases.folder, WITHDRAWN_FOLDER))
    return plan


def _kept(releases: Releases, listed: list[Release], keep: int) -> dict[str, str]:
    """Why releases stay, by id."""
    kept: dict[str, str] = {}
    for pipeline in {release.pipeline for release in listed}:
        for release in [each for each in listed if each.pipeline == pipeline][:keep]:
            kept[release.id] = f"among the newest {keep}"
    moves = label_moves(releases)
    for label in sorted(releases.labels()):
        before = rollback_target(moves, label)
        if before is not None:
            kept[before] = f"`{label}` would go back to it"
    for label, release_id in sorted(releases.labels().items()):
        kept[release_id] = f"`{label}` names it"
    return kept


def _withdrawn(releases: Releases) -> list[Release]:
    """The releases that an earlier prune withdrew and did not end."""
    found = []
    for path in storage.entries(storage.join(releases.folder, WITHDRAWN_FOLDER), "*.json"):
        found.append(parse_model(json.loads(storage.read_text(path)), Release, path))
    return found


def _withdraw(releases: Releases, release_id: str) -> None:
    path = releases.manifest_path(release_id)
    if storage.is_file(path):
        copy = storage.join(releases.folder, WITHDRAWN_FOLDER, storage.name(path))
        storage.write_bytes(copy, storage.read_bytes(path), durable=True)
        storage.delete(path)


def _is_current(releases: Releases, tables: str) -> bool:
    """Whether bucket tables are those that their store names as its current ones: these stay there."""
    store, version = _store_and_version(releases, tables)
    return os.path.realpath(os.path.join(store, CURRENT)) == os.path.realpath(os.path.join(store, version))


def _store_and_version(releases: Releases, tables: str) -> tuple[str, str]:
    store, version = tables.rsplit("/", 1)
    return releases.path(store), version


def _models_of(named: Iterable[Release]) -> set[str]:
    return {model.path for release in named for model in release.models}


def _tables_of(named: Iterable[Release]) -> set[str]:
    named = list(named)
    profiles = {release.profiles for release in named if release.profiles is not None}
    return profiles | {f"{tables.path}/{tables.version}" for release in named for tables in release.tables}


def _catalogues_of(named: Iterable[Release]) -> set[str]:
    named = [file for release in named for file in (release.catalogue, release.popular_items)]
    return {file for file in named if file is not None}
