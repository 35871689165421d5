"""Publishing a release: its manifest appears after everything that it names is in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features import storage
from features.errors import RunError
from serving.release.contents import digest, problems_of, take_stock
from serving.release.decisions import decide
from serving.release.lock import locked
from serving.release.manifest import Release, ReleasedModel, created_at, new_release_id
from serving.release.registry import Releases

CATALOGUES_FOLDER = "catalogues"


def publish_release(
    root: storage.AnyPath,
    models: Sequence[ReleasedModel],
    *,
    items: storage.AnyPath | None = None,
    popular_items: storage.AnyPath | None = None,
    unless_same_as: Release | None = None,
    **facts: Any,
) -> Release:
    """Names what is served together, in a manifest that appears by one rename. No label is moved.

    Models and tables are in the root by then; the catalogue is copied there, where no earlier release did.

    Args:
      root: the serving root.
      models: the versions; the files of those that name none are taken stock of now.
      items: Parquet file of the raw items, wherever it lies; None: the release has no catalogue, or `facts` names one
        that is in the root already.
      popular_items: Parquet file of the most clicked items (`evaluation.baselines.ItemCounts.most_clicked`), wherever
        it lies; None: the release names none.
      unless_same_as: an earlier release, which is returned where the new one would serve the same.
      **facts: the other fields of `Release`.

    Raises:
      NotFoundError: if a model is not in the root.
      RunError: if something that the release names is missing or has changed; nothing is published.
      SpecError: if an earlier manifest is damaged.
    """
    releases = Releases(root)
    stocked = tuple(
        model if model.files else model.model_copy(update={"files": take_stock(releases.path(model.path))})
        for model in models
    )
    if items is not None:
        facts["catalogue"], facts["catalogue_sha256"] = _put_file(releases, items)
    if popular_items is not None:
        facts["popular_items"], _ = _put_file(releases, popular_items)
    with locked(root):
        newest = next(iter(releases.all()), None)
        release_id, created = new_release_id(after=None if newest is None else created_at(newest))
        release = Release(id=release_id, created=created, models=stocked, **facts)
        if unless_same_as is not None and _served(unless_same_as) == _served(release):
            return unless_same_as
        problems = problems_of(releases, release)
        if problems:
            raise RunError("The release was not published: " + " ".join(problems))
        _record(root, release)
        text = release.model_dump_json(indent=2) + "\n"
        storage.write_text(releases.manifest_path(release.id), text, durable=True)
    return release


def _record(root: storage.AnyPath, release: Release) -> None:
    named = {model.name: model.version for model in release.models}
    kept = [model.name for model in release.models if model.kept]
    evidence = {"models": named, "kept": kept, "metrics": release.metrics, "data": release.data}
    decide(root, "release", release.id, why=release.allowed_by, evidence=evidence)


def _served(release: Release) -> tuple:
    """What a release gives to those who ask, without how it came about."""
    models = {(model.path, model.files) for model in release.models}
    files = release.catalogue, release.popular_items, release.profiles
    return models, set(release.tables), files, release.cascade, release.cascade_models


def _put_file(releases: Releases, file: storage.AnyPath) -> tuple[str, str]:
    """Puts a file into the root under its digest; returns its path there and the digest."""
    sha256 = digest(file)
    inside = f"{CATALOGUES_FOLDER}/{sha256[:16]}/{storage.name(file)}"
    target = releases.path(inside)
    if not storage.is_file(target):
        storage.write_bytes(target, storage.read_bytes(file), durable=True)
    return inside, sha256
