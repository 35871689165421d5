"""What the releases of a serving root say of its models: versions, how they were judged, what differs between two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from features.config import nearest
from features.errors import NotFoundError
from serving.release.manifest import Release
from serving.release.registry import Releases


@dataclass
class ModelVersion:
    """One version of a model, as far as releases name it.

    Attributes:
      model: its name, which is its folder in the serving root.
      version: its number.
      stage, kind: as the first release that names it has them.
      releases: ids of those that name it, the newest first.
      labels: of these releases.
      metrics: that it was judged by.
    """

    model: str
    version: int
    stage: str
    kind: str
    releases: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def model_versions(releases: Releases, model: str | None = None) -> list[ModelVersion]:
    """Returns the versions that releases name, by model, the newest first.

    Args:
      releases: of a serving root.
      model: only of this one; None: of all.

    Raises:
      NotFoundError: if no release names the model.
    """
    found: dict[tuple[str, int], ModelVersion] = {}
    labels = releases.labels()
    for release in releases.all():
        for named in release.models:
            made = ModelVersion(named.name, named.version, named.stage, named.kind)
            version = found.setdefault((named.name, named.version), made)
            version.releases.append(release.id)
            version.labels += sorted(label for label, of in labels.items() if of == release.id)
            version.metrics = version.metrics or release.metrics.get(named.name, {})
    names = {name for name, _ in found}
    if model is not None and model not in names:
        held = f"They name: {', '.join(sorted(names))}." if names else "There are none: `clickmill run` makes them."
        raise NotFoundError(f"no release of {releases.root} names `{model}`.{nearest(model, names)} {held}")
    chosen = [each for each in found.values() if model in (None, each.model)]
    return sorted(chosen, key=lambda each: (each.model, -each.version))


def differences(before: Release, after: Release) -> dict[str, Any]:
    """Returns what two releases differ in.

    `models`: {name: {`before`, `after`: versions, None where the release does not name it; `metrics`: {metric: [before,
    after]} of those that both have}} of all that are not the same; `facts`: {fact: [before, after]}, of spec,
    configuration, data, catalogue, profiles and cascade.
    """
    models = {}
    for name in sorted({model.name for release in (before, after) for model in release.models}):
        old, new = before.model(name), after.model(name)
        versions = {"before": old and old.version, "after": new and new.version}
        judged = [release.metrics.get(name, {}) for release in (before, after)]
        if old is None or new is None or (old.version, old.files) != (new.version, new.files):
            both = {metric: [judged[0][metric], judged[1][metric]] for metric in judged[0] if metric in judged[1]}
            models[name] = {**versions, "metrics": both}
    facts = {}
    for fact in ("spec", "config", "data", "catalogue", "profiles", "popular_items", "cascade", "tables"):
        old_fact, new_fact = (release.model_dump(mode="json")[fact] for release in (before, after))
        if old_fact != new_fact:
            facts[fact] = [old_fact, new_fact]
    return {"models": models, "facts": facts}
