"""The kinds of models, one row each, and the stages that they stand in. What differs between models is a row here.

Rows hold import paths, `package.module:name`: nothing is imported before a kind is used.
"""

from __future__ import annotations

import importlib
import operator
from dataclasses import dataclass
from typing import Any

import models  # noqa: F401  chooses the Keras, before a team's own module imports TensorFlow
from features.config import SpecError, Strict, nearest


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
      title: how the report calls it.
      stage: the row of `STAGES` that it is trained, judged and exported by.
      config: the import path of its configuration class; the module imports no TensorFlow.
      model: the import path of its Keras model.
      taught_title: how the report calls one that learns from a teacher's lists alone; `title` by default.
    """

    title: str
    stage: str
    config: str
    model: str
    taught_title: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of the cascade; all values are import paths.

    Attributes:
      section: the class of a model's section in the configuration, a `pipeline.model_sections.ModelSection`.
      trainer: a function of a `models.training.task.TrainingTask` that returns a `Trained`.
      exporter: a function of the model, its encoding and a directory, with the keywords `warmup_rows`, `overwrite` and
        those of `Trained.export_with`.
      evaluator: the component that judges the export, a `pipeline.components.evaluators.evaluator.Evaluator`.
    """

    section: str
    trainer: str
    exporter: str
    evaluator: str


STAGES = {
    "retrieval": Stage(
        section="pipeline.model_sections:RetrievalSection",
        trainer="models.training.retrieval_stage:train_retrieval",
        exporter="serving.export.two_tower:export_two_tower",
        evaluator="pipeline.components.evaluators.retrieval_evaluator:RetrievalEvaluator",
    ),
    "fine": Stage(
        section="pipeline.model_sections:FineSection",
        trainer="models.training.fine_stage:train_fine",
        exporter="serving.export.ranker:export_ranker",
        evaluator="pipeline.components.evaluators.ranking_evaluator:RankingEvaluator",
    ),
    "coarse": Stage(
        section="pipeline.model_sections:CoarseSection",
        trainer="models.training.coarse_stage:train_coarse",
        exporter="serving.export.coarse:export_coarse",
        evaluator="pipeline.components.evaluators.ranking_evaluator:RankingEvaluator",
    ),
}

KINDS = {
    "two_tower": Kind(
        "SSL two-tower",
        stage="retrieval",
        config="models.two_tower.config:TwoTowerConfig",
        model="models.two_tower.model:TwoTower",
        taught_title="Distilled two-tower",
    ),
    "autoint": Kind(
        "AutoInt", stage="fine", config="models.autoint.config:AutoIntConfig", model="models.autoint.model:AutoInt"
    ),
    "aw_moe": Kind(
        "AW-MoE", stage="fine", config="models.aw_moe.config:AwMoeConfig", model="models.aw_moe.model:AwMoe"
    ),
    "hcn": Kind("HCN", stage="coarse", config="models.hcn.config:HcnConfig", model="models.hcn.model:Hcn"),
}


def load(path: str) -> Any:
    """Imports what a path names: `package.module:name`, or `package.module:name.attribute`.

    Raises:
      SpecError: if there is no such module or name.
    """
    module, _, name = path.partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"`{path}` cannot be imported: {error}. An import path is `package.module:name`, of a package that is "
            "installed or whose folder is on PYTHONPATH."
        ) from error


def kind_of(name: str) -> Kind:
    """Returns a kind by its name, or by the import path of a team's own: of a `Kind`, or of a model's class.

    A class holds its configuration class as `Config`; `stage` (`fine` by default) and `title` (its name) are optional.

    Raises:
      SpecError: if there is no such kind, or what stands at the import path is none.
    """
    if name in KINDS:
        return KINDS[name]
    if name in STAGES:
        kinds = " or ".join(f"`kind: {kind}`" for kind, row in KINDS.items() if row.stage == name)
        raise SpecError(f"`{name}` is a stage: say which kind of model stands in it, add {kinds}.")
    if ":" not in name:
        raise SpecError(
            f"no kind of model is called `{name}`.{nearest(name, KINDS)} A model of another name than "
            f"{', '.join(KINDS)} says its `kind`: one of these, or the import path of a class (`package.module:Class`)."
        )
    found = load(name)
    if not isinstance(found, Kind):
        found = Kind(
            title=getattr(found, "title", found.__name__),
            stage=getattr(found, "stage", "fine"),
            config=f"{name}.Config",
            model=name,
        )
    if found.stage not in STAGES:
        raise SpecError(f"`{name}`: `stage` must be one of {', '.join(STAGES)}. Received: {found.stage!r}.")
    config = load(found.config)
    if not (isinstance(config, type) and issubclass(config, Strict)):
        raise SpecError(f"`{found.config}` must be a class that inherits features.config.Strict. Received: {config!r}.")
    return found
