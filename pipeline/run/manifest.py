"""A run's manifest: the models that it pushed, and what serves them, for whoever comes after the run.

`manifest.json` is written whole at the end of every run, in the run's folder. Local paths in it start at that folder,
so that a checkout can be moved as a whole, with its runs and pushed models; URIs stand as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from evaluation.cascade.config import CascadeConfig
from features import storage
from features.config import Strict, parse_model
from features.errors import InputError
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


class PushedCascade(CascadeConfig):
    """Names of the models of the cascade (without a `coarse_ranker`: two stages), and the sizes that were judged."""

    two_tower: str
    ranker: str
    coarse_ranker: str | None = None


class Manifest(Strict):
    """What a run pushed.

    Attributes:
      pipeline: its name.
      models: by name; those that failed a gate are left out.
      catalogue: Parquet file of the raw items; None: there is no items table.
      cascade: None: none was configured, or its two-tower or its fine ranker was not pushed.
    """

    pipeline: str
    models: dict[str, PushedModel]
    catalogue: str | None
    cascade: PushedCascade | None


def write_manifest(
    config: PipelineConfig, components: Sequence[ComponentRun], outcomes: Mapping[str, ModelOutcome]
) -> Manifest:
    """Writes the manifest of a run into its folder, and returns it."""

    def from_run(path: storage.AnyPath) -> str:
        local = storage.is_local(path) and storage.is_local(config.run_dir)
        return os.path.relpath(path, config.run_dir) if local else storage.absolute(path)

    models, cascade, retrieval = {}, None, config.models.cascade_retrieval
    for name, outcome in outcomes.items():
        if outcome.pushed:
            models[name] = PushedModel(
                kind=config.models[name].kind,
                stage=config.models.stage(name),
                directory=from_run(storage.parent(outcome.pushed)),
                version=storage.name(outcome.pushed),
                tables=from_run(outcome.tables_dir) if outcome.tables_dir else None,
            )
    if config.cascade is not None and {retrieval, config.cascade_ranker} <= set(models):
        cascade = PushedCascade(
            two_tower=retrieval,
            ranker=config.cascade_ranker,
            coarse_ranker=config.models.cascade_coarse if config.models.cascade_coarse in models else None,
            **config.cascade.model_dump(include=set(CascadeConfig.model_fields)),
        )
    catalogue = storage.join(outputs_by_component(components)["LogIngest"]["examples"], CATALOGUE_FILE)
    catalogue = from_run(catalogue) if storage.is_file(catalogue) else None
    manifest = Manifest(pipeline=config.name, models=models, catalogue=catalogue, cascade=cascade)
    storage.write_text(storage.join(config.run_dir, MANIFEST_FILE), manifest.model_dump_json(indent=2) + "\n")
    return manifest


def load_cascade(run_dir: storage.AnyPath) -> dict[str, str | int | None]:
    """Returns what `clickmill recommend` needs of a run: the values of its options by name.

    Raises:
      InputError: if the run left no manifest, or pushed no cascade.
    """
    path = storage.join(run_dir, MANIFEST_FILE)
    if not storage.is_file(path):
        raise InputError(f"{path}: no such file. Every `clickmill run` that ends well writes one: run it again.")
    try:
        manifest = parse_model(json.loads(storage.read_text(path)), Manifest, path)
    except ValueError as error:
        raise InputError(f"{error}\n{path} is no manifest of this version of Clickmill: run it again.") from error
    cascade = manifest.cascade
    if cascade is None or manifest.catalogue is None:
        raise InputError(
            f"{path}: this run pushed no cascade but {', '.join(manifest.models) or 'no model'}. It takes a `cascade` "
            "in the profile, an items table, and a two-tower and a fine ranker that pass their gates."
        )

    def opened(path: str | None) -> str | None:
        return os.path.normpath(os.path.join(run_dir, path)) if path and storage.is_local(path) else path

    def version(name: str | None) -> str | None:
        return name and storage.join(opened(manifest.models[name].directory), manifest.models[name].version)

    return {
        "two_tower": version(cascade.two_tower),
        "coarse": version(cascade.coarse_ranker),
        "ranker": version(cascade.ranker),
        "tables": opened(manifest.models[cascade.ranker].tables),
        "items": opened(manifest.catalogue),
        "retrieve": cascade.retrieve,
        "passed": cascade.coarse,
        "top": cascade.top_k,
    }
