"""What the next release of a pipeline names: the models that a run allowed, and those of the release before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.cascade.config import CascadeConfig
from features import storage
from features.config import Strict
from pipeline.config import PipelineConfig
from serving.release.contents import model_problems, tables_problems
from serving.release.decisions import whoami
from serving.release.manifest import Release, ReleasedModel, ReleasedTables, fingerprint
from serving.release.publish_release import publish_release
from serving.release.registry import Releases


class PlannedModel(Strict):
    """A model of a release.

    Attributes:
      folder: of its versions in the serving root.
      kind, stage: of the model.
      store: of its bucket tables, in the serving root; None: it reads none.
    """

    folder: str
    kind: str
    stage: str
    store: str | None = None


class ReleasePlan(Strict):
    """What belongs to a release of a pipeline.

    Attributes:
      root: the serving root.
      pipeline: its name.
      models: by name, all of the profile: also those that a run does not train.
      cascade: how many items pass each stage; None: the models are no cascade.
      cascade_models: names of models by stage, those of the cascade.
      profiles: the store of users' profiles, in the serving root; None: there is none.
      label: of the examples, by which the most clicked items are found.
      spec, config: fingerprints.
    """

    root: str
    pipeline: str
    models: dict[str, PlannedModel]
    cascade: CascadeConfig | None
    cascade_models: dict[str, str]
    label: str
    spec: str
    profiles: str | None = None
    config: str


@dataclass(frozen=True)
class Allowed:
    """A model that a run pushed.

    Attributes:
      version: that it was pushed under.
      metrics: that it was judged by.
      tables: the version of its bucket tables; None: it reads none.
      overridden: whether it failed gates, and somebody allowed it nevertheless.
    """

    version: int
    metrics: dict[str, float]
    tables: str | None = None
    overridden: bool = False


def release_plan(config: PipelineConfig) -> ReleasePlan:
    """Returns what belongs to a release of a pipeline, also where only some of its models are run."""
    from models.sdim.config import reads_tables

    profile = config.profile
    models = {}
    for name in profile.models.names:
        section = profile.models[name]
        store = storage.name(profile.tables_dir(name)) if reads_tables(section.parameters) else None
        folder, stage = storage.name(profile.push_dir(name)), profile.models.stage(name)
        models[name] = PlannedModel(folder=folder, kind=section.kind, stage=stage, store=store)
    sizes, chain = None, {}
    if profile.cascade is not None:
        sizes = CascadeConfig(**profile.cascade.model_dump(include=set(CascadeConfig.model_fields)))
        chain = {"retrieval": profile.models.cascade_retrieval, "coarse": profile.models.cascade_coarse}
        chain = {stage: name for stage, name in {**chain, "fine": profile.cascade_ranker}.items() if name}
    return ReleasePlan(
        root=storage.absolute(profile.serving_dir),
        pipeline=profile.name,
        models=models,
        cascade=sizes,
        cascade_models=chain,
        label=profile.feature_spec.label,
        spec=fingerprint(profile.feature_spec.model_dump(mode="json")),
        config=fingerprint(profile.model_dump(mode="json")),
        profiles=storage.name(profile.profiles_dir),
    )


def release_run(
    plan: ReleasePlan,
    allowed: Mapping[str, Allowed],
    items: str | None,
    data: str,
    *,
    popular_items: str | None = None,
    profiles: str | None = None,
) -> Release | None:
    """Publishes the release of a run.

    A model that the run did not allow stays as the last release of the pipeline names it, as far as it is whole.

    Args:
      plan: what belongs to a release.
      allowed: what the run pushed, by name.
      items: Parquet file of the raw items; None: there is none.
      data: fingerprint of the logs.
      popular_items: Parquet file of the most clicked of the items; None: there is none.
      profiles: the version of users' profiles in the plan's store; None: there is none.

    Returns:
      The release: the last one, where that names the same; None where the run allowed nothing.
    """
    if not allowed:
        return None
    releases = Releases(plan.root)
    last = next((release for release in releases.all() if release.pipeline == plan.pipeline), None)
    models, tables, metrics = [], [], {}
    for name, planned in plan.models.items():
        found = _pushed(planned, allowed[name]) if name in allowed else last and _kept(releases, last, planned.folder)
        if found:
            model, of_model = found
            models.append(model)
            tables += [of_model] if of_model else []
            judged = allowed[name].metrics if name in allowed else last.metrics.get(planned.folder, {})
            metrics[planned.folder] = judged
    chain = {stage: plan.models[name].folder for stage, name in plan.cascade_models.items()}
    chain = {stage: name for stage, name in chain.items() if name in metrics}
    whole = items is not None and {"retrieval", "fine"} <= set(chain)
    facts = {
        "tables": tuple(tables),
        "cascade": plan.cascade if whole else None,
        "cascade_models": chain if whole else {},
        "spec": plan.spec,
        "config": plan.config,
        "data": data,
        "metrics": metrics,
        "allowed_by": _allowed_by(plan, allowed),
        "pipeline": plan.pipeline,
    }
    facts["profiles"] = f"{plan.profiles}/{profiles}" if plan.profiles and profiles else None
    facts["popular_items"] = None if items is None else popular_items
    return publish_release(plan.root, models, items=items, unless_same_as=last, **facts)


def _allowed_by(plan: ReleasePlan, allowed: Mapping[str, Allowed]) -> str:
    overridden = [plan.models[name].folder for name, found in allowed.items() if found.overridden]
    but = f", but for {', '.join(overridden)}: see decisions.jsonl" if overridden else ""
    return f"the gates of the pipeline {plan.pipeline}, run by {whoami()}{but}"


def _pushed(planned: PlannedModel, allowed: Allowed) -> tuple[ReleasedModel, ReleasedTables | None]:
    model = ReleasedModel(
        name=planned.folder,
        stage=planned.stage,
        version=allowed.version,
        path=f"{planned.folder}/{allowed.version}",
        kind=planned.kind,
    )
    if planned.store is None or allowed.tables is None:
        return model, None
    return model, ReleasedTables(model=planned.folder, version=allowed.tables, path=planned.store)


def _kept(releases: Releases, last: Release, folder: str) -> tuple[ReleasedModel, ReleasedTables | None] | None:
    """What the last release names of a model; None where it names nothing that is whole."""
    model, tables = last.model(folder), last.tables_of(folder)
    if model is None or model_problems(releases, model) or tables and tables_problems(releases, tables):
        return None
    return model.model_copy(update={"kept": True}), tables
