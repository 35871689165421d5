"""A run's manifest: the models that it pushed and the release that names them, for whoever comes after the run.

`manifest.json` is written whole at the end of every run, in the run's folder. Local paths in it start at that folder,
so that a checkout can be moved as a whole, with its runs and pushed models; URIs stand as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from features import storage
from features.config import Strict, parse_model
from features.errors import InputError, NotFoundError
from pipeline.config import PipelineConfig
from pipeline.run.lineage import ComponentRun
from pipeline.run.outcomes import ModelOutcome
from serving.release.manifest import Release
from serving.release.registry import Releases

MANIFEST_FILE = "manifest.json"


class PushedModel(Strict):
    """A model that passed its gates.

    Attributes:
      kind: of the model.
      stage: `retrieval`, `coarse` or `fine`.
      directory: the folder of its versions.
      version: the one that this run pushed.
      tables: the store of the bucket tables that it is served with; None: it reads none.
    """

    kind: str
    stage: str
    directory: str
    version: str
    tables: str | None = None


class Manifest(Strict):
    """What a run pushed.

    Attributes:
      pipeline: its name.
      models: by name; those that failed a gate are left out.
      release: the manifest of the release that names them, and with them what serves them: tables, catalogue, cascade
        (docs/reference/serving/releases.md); None: the run pushed nothing.
    """

    pipeline: str
    models: dict[str, PushedModel]
    release: str | None


def write_manifest(
    config: PipelineConfig, components: Sequence[ComponentRun], outcomes: Mapping[str, ModelOutcome]
) -> Manifest:
    """Writes the manifest of a run into its folder, and returns it."""

    def from_run(path: storage.AnyPath | None) -> str | None:
        if path and storage.is_local(path) and storage.is_local(config.run_dir):
            return os.path.relpath(path, config.run_dir)
        return path and storage.absolute(path)

    models = {}
    for name, outcome in outcomes.items():
        if outcome.pushed:
            models[name] = PushedModel(
                kind=config.models[name].kind,
                stage=config.models.stage(name),
                directory=from_run(storage.parent(outcome.pushed)),
                version=storage.name(outcome.pushed),
                tables=from_run(outcome.tables_dir),
            )
    manifest = Manifest(pipeline=config.name, models=models, release=from_run(_release(config, components)))
    storage.write_text(storage.join(config.run_dir, MANIFEST_FILE), manifest.model_dump_json(indent=2) + "\n")
    return manifest


def load_release(run_dir: storage.AnyPath) -> tuple[Releases, Release]:
    """Returns the release of a run, and those of the serving root that it lies in.

    Raises:
      InputError: if the run left no manifest, or made no release.
    """
    path = storage.join(run_dir, MANIFEST_FILE)
    if not storage.is_file(path):
        raise NotFoundError(f"{path}: no such file. Every `clickmill run` that ends well writes one: run it again.")
    try:
        manifest = parse_model(json.loads(storage.read_text(path)), Manifest, path)
    except ValueError as error:
        raise InputError(f"{error}\n{path} is no manifest of this version of Clickmill: run it again.") from error
    if manifest.release is None:
        raise InputError(f"{path}: this run made no release: it pushed {', '.join(manifest.models) or 'no model'}.")
    release = manifest.release
    if storage.is_local(release):
        release = os.path.normpath(os.path.join(run_dir, release))
    releases = Releases(storage.parent(storage.parent(release)))
    return releases, releases.get(storage.name(release).removesuffix(".json"))


def _release(config: PipelineConfig, components: Sequence[ComponentRun]) -> str | None:
    """The manifest of the release that the run made, or that an earlier one did whose push is cached."""
    (pusher,) = (run for run in components if run.component == "ReleasePusher")
    release_id = pusher.properties["release"].get("release")
    path = release_id and Releases(config.serving_dir).manifest_path(str(release_id))
    # Pruned since, perhaps, which costs the run nothing.
    return path if path and storage.is_file(path) else None
