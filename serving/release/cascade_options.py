"""The cascade of a release as paths and sizes, for who runs it in process."""

from __future__ import annotations

from features.errors import InputError
from serving.release.manifest import Release
from serving.release.registry import Releases


def cascade_options(releases: Releases, release: Release) -> dict[str, str | int | None]:
    """Returns the options of `clickmill recommend` by name: the models, their tables, the items, the sizes.

    Args:
      releases: of the root that the release lies in.
      release: whose cascade is asked for.

    Raises:
      InputError: if the release is no cascade.
    """
    if release.cascade is None or release.catalogue is None or not {"retrieval", "fine"} <= set(release.cascade_models):
        raise InputError(
            f"{release.id} is no cascade but {', '.join(model.name for model in release.models)}. It takes a `cascade` "
            "in the profile, an items table, and a two-tower and a fine ranker that pass their gates."
        )
    models = {stage: model_path(releases, release, name) for stage, name in release.cascade_models.items()}
    return {
        "two_tower": models["retrieval"],
        "coarse": models.get("coarse"),
        "ranker": models["fine"],
        "tables": tables_path(releases, release, release.cascade_models["fine"]),
        "items": releases.path(release.catalogue),
        "retrieve": release.cascade.retrieve,
        "passed": release.cascade.coarse,
        "top": release.cascade.top_k,
    }


def model_path(releases: Releases, release: Release, name: str) -> str:
    """Returns where the version of a model lies that a release names. Raises `InputError` if it names none."""
    model = release.model(name)
    if model is None:
        raise InputError(f"{release.id} holds no `{name}` but {', '.join(each.name for each in release.models)}.")
    return releases.path(model.path)


def tables_path(releases: Releases, release: Release, name: str) -> str | None:
    """Returns where the store of a ranker's bucket tables lies; None: it reads none."""
    tables = release.tables_of(name)
    return None if tables is None else releases.path(tables.path)
