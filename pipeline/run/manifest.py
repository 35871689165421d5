"""A run's manifest: the models that it pushed, and what serves them, for whoever comes after the run.

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
from features.items.catalogue import CATALOGUE_FILE
from pipeline.config import PipelineConfig
from pipeline.lineage import ComponentRun, outputs_by_component
from pipeline.run.outcomes import ModelOutcome

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
      catalogue: Parquet file of the raw items; None: there is no items table.
      cascade: the options of `clickmill recommend` by name: the models, their tables, the items, and the sizes that
        were judged; None: no cascade was configured, or its two-tower or its fine ranker was not pushed.
    """

    pipeline: str
    models: dict[str, PushedModel]
    catalogue: str | None
    cascade: dict[str, str | int | None] | None


def write_manifest(
    config: PipelineConfig, components: Sequence[ComponentRun], outcomes: Mapping[str, ModelOutcome]
) -> Manifest:
    """Writes the manifest of a run into its folder, and returns it."""

    def from_run(path: storage.AnyPath | None) -> str | None:
        if path and storage.is_local(path) and storage.is_local(config.run_dir):
            return os.path.relpath(path, config.run_dir)
        return path and storage.absolute(path)

    pushed = {name: outcome for name, outcome in outcomes.items() if outcome.pushed}
    models, cascade = {}, None
    for name, outcome in pushed.items():
        models[name] = PushedModel(
            kind=config.models[name].kind,
            stage=config.models.stage(name),
            directory=from_run(storage.parent(outcome.pushed)),
            version=storage.name(outcome.pushed),
            tables=from_run(outcome.tables_dir),
        )
    retrieval, ranker, items = config.models.cascade_retrieval, config.cascade_ranker, _catalogue(components)
    if config.cascade is not None and {retrieval, ranker} <= set(pushed) and items:
        coarse = pushed.get(config.models.cascade_coarse)
        cascade = {
            "two_tower": from_run(pushed[retrieval].pushed),
            "coarse": from_run(coarse and coarse.pushed),
            "ranker": from_run(pushed[ranker].pushed),
            "tables": from_run(pushed[ranker].tables_dir),
            "items": from_run(items),
            "retrieve": config.cascade.retrieve,
            "passed": config.cascade.coarse,
            "top": config.cascade.top_k,
        }
    manifest = Manifest(pipeline=config.name, models=models, catalogue=from_run(items), cascade=cascade)
    storage.write_text(storage.join(config.run_dir, MANIFEST_FILE), manifest.model_dump_json(indent=2) + "\n")
    return manifest


def load_cascade(run_dir: storage.AnyPath) -> dict[str, str | int | None]:
    """Returns the `cascade` of a run's manifest, with paths that can be opened.

    Raises:
      InputError: if the run left no manifest, or pushed no cascade.
    """
    path = storage.join(run_dir, MANIFEST_FILE)
    if not storage.is_file(path):
        raise NotFoundError(f"{path}: no such file. Every `clickmill run` that ends well writes one: run it again.")
    try:
        manifest = parse_model(json.loads(storage.read_text(path)), Manifest, path)
    except ValueError as error:
        raise InputError(f"{error}\n{path} is no manifest of this version of Clickmill: run it again.") from error
    if manifest.cascade is None:
        raise InputError(
            f"{path}: this run pushed no cascade but {', '.join(manifest.models) or 'no model'}. It takes a `cascade` "
            "in the profile, an items table, and a two-tower and a fine ranker that pass their gates."
        )

    def opened(value: str | int | None) -> str | int | None:
        if isinstance(value, str) and storage.is_local(value):
            return os.path.normpath(os.path.join(run_dir, value))
        return value

    return {name: opened(value) for name, value in manifest.cascade.items()}


def _catalogue(components: Sequence[ComponentRun]) -> str | None:
    path = storage.join(outputs_by_component(components)["LogIngest"]["examples"], CATALOGUE_FILE)
    return path if storage.is_file(path) else None
