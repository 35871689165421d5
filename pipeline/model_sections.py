"""The `models` section of a pipeline's configuration: which models are trained, how, and which teaches which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from evaluation.config import DistilledEvaluationConfig, EvaluationConfig, RetrievalEvaluationConfig
from features.config import SpecError, Strict, nearest
from features.examples.config import CandidateSetConfig, TeacherListsConfig
from features.items.config import SimHashConfig
from features.spec import FeatureSpec
from models.last_layer.config import LastLayerConfig
from models.sdim.config import reads_histories, reads_signatures
from models.training.config import TrainingConfig
from pipeline.model_kinds import KINDS, STAGES, kind_of, load


class SignaturesConfig(Strict):
    """How BehaviorSignatures hashes the items of the catalogue.

    Attributes:
      simhash: bits, bits a signature, seed.
      center: subtract the mean embedding first; `auto`: if the embeddings lie in a cone.
    """

    simhash: SimHashConfig = SimHashConfig()
    center: bool | Literal["auto"] = "auto"


class TablesConfig(Strict):
    """How BehaviorTables stores bucket tables.

    Attributes:
      precision: of the sums.
    """

    precision: Literal["fp32", "fp16", "int8"] = "fp32"


class ModelSection(Strict):
    """One model; each stage adds what its models need.

    Attributes:
      kind: a row of `pipeline.model_kinds.KINDS`, or the import path of a team's own; the model's name by default.
      parameters: of the kind's own configuration class (for `autoint`: `models.autoint.config.AutoIntConfig`).
      training: how it is trained.
    """

    kind: str
    parameters: SerializeAsAny[Strict] = Field({}, validate_default=True)
    training: TrainingConfig = TrainingConfig()

    @field_validator("parameters", mode="before")
    @classmethod
    def _of_the_kind(cls, values: Any, info: ValidationInfo) -> Strict:
        return load(kind_of(info.data["kind"]).config).model_validate(values)

    @property
    def taught(self) -> bool:
        """Whether the model learns from the lists of a teacher and from nothing else."""
        return False

    def rests_on(self, models: ModelsConfig) -> list[str]:
        """Returns the models that must be trained before, because this one learns from them."""
        return []

    def check(self, name: str, models: ModelsConfig, spec: FeatureSpec) -> None:
        """Raises `SpecError` if the model, called `name`, lacks another one or a part of the feature spec."""


class FineSection(ModelSection):
    """A fine ranker.

    Attributes:
      tables: of its users' long histories, if it reads them through SDIM.
      last_layer: how draws of its last layer are made, by which a gateway explores (Thompson sampling); None: none are.
    """

    tables: TablesConfig = TablesConfig()
    last_layer: LastLayerConfig | None = None

    def rests_on(self, models: ModelsConfig) -> list[str]:
        return [models.base_retrieval] if models.base_retrieval and reads_signatures(self.parameters) else []

    def check(self, name: str, models: ModelsConfig, spec: FeatureSpec) -> None:
        if reads_histories(self.parameters) and spec.history is None:
            raise SpecError(f"`models.{name}.parameters.history` needs a `history` in the feature spec.")
        if reads_signatures(self.parameters) and models.base_retrieval is None:
            raise SpecError(
                f"`models.{name}` reads item signatures, which come from the two-tower: add `two_tower` to `models`, "
                f"or set `models.{name}.parameters.history.signature_source` to end_to_end."
            )


class RetrievalSection(ModelSection):
    """A retrieval model. With a `teacher` it learns that fine ranker's order of the catalogue, from TeacherLists.

    Attributes:
      teacher: the fine ranker; None: it learns from takes. The parameters `ssl` and `log_q` of a two-tower that is
        taught have no effect, and a list's group of requests is a batch.
      lists: which requests and items the teacher scores.
      evaluation: cut-offs and gates; a model that is taught has gates of its own
        (`evaluation.config.DistilledEvaluationConfig`).
      signatures: of the items, for the rankers' long histories: of the first model that learns from takes.
    """

    teacher: str | None = None
    lists: TeacherListsConfig = TeacherListsConfig()
    evaluation: SerializeAsAny[RetrievalEvaluationConfig] = Field({}, validate_default=True)
    signatures: SignaturesConfig = SignaturesConfig()

    @field_validator("evaluation", mode="before")
    @classmethod
    def _by_teacher(cls, values: Any, info: ValidationInfo) -> RetrievalEvaluationConfig:
        gates = RetrievalEvaluationConfig if info.data.get("teacher") is None else DistilledEvaluationConfig
        return gates.model_validate(values)

    @property
    def taught(self) -> bool:
        return self.teacher is not None

    def rests_on(self, models: ModelsConfig) -> list[str]:
        return [models.base_retrieval, self.teacher] if self.taught else []

    def check(self, name: str, models: ModelsConfig, spec: FeatureSpec) -> None:
        if spec.history is None:
            raise SpecError(f"`models.{name}` reads short histories: name a `history` in the feature spec.")
        given = {"signatures" if self.taught else "lists"} & self.model_fields_set
        if given:
            does = "learns from a teacher: it signs no items" if self.taught else "has no `teacher` to score them"
            raise SpecError(f"`models.{name}.{given.pop()}`: the model {does}.")
        if self.taught and self.training.warm_start is not None:
            raise SpecError(f"`models.{name}.training.warm_start`: a model that is taught by lists starts cold.")
        if self.taught and models.base_retrieval is None:
            raise SpecError(
                f"`models.{name}` learns from lists of what the two-tower retrieves: add `two_tower` to `models`."
            )
        _check_teacher(name, self.teacher, models)


class CoarseSection(ModelSection):
    """A coarse ranker. It learns from CoarseExamples, so it needs a retrieval model.

    Attributes:
      candidates: the retrieved items that join the impressions.
      list_training: how a second part is trained, on the teacher lists of the retrieval that is taught; None: there is
        none.
      teacher: the fine ranker that it is distilled from (`parameters.distillation`); None: from none.
      evaluation: its own metrics and gates; None: the fine rankers'. Its scores choose candidates and are never used as
        probabilities, so it may be allowed another PCOC.
    """

    candidates: CandidateSetConfig = CandidateSetConfig()
    list_training: TrainingConfig | None = None
    teacher: str | None = None
    evaluation: EvaluationConfig | None = None

    def rests_on(self, models: ModelsConfig) -> list[str]:
        return [models.cascade_retrieval, *([self.teacher] if self.teacher else [])]

    def check(self, name: str, models: ModelsConfig, spec: FeatureSpec) -> None:
        if spec.history is None:
            raise SpecError(f"`models.{name}` reads histories: name a `history` in the feature spec.")
        if models.base_retrieval is None:
            raise SpecError(f"`models.{name}` learns from what the two-tower retrieves: add `two_tower` to `models`.")
        _check_teacher(name, self.teacher, models)
        if self.teacher is None and getattr(self.parameters, "needs_teacher", False):
            raise SpecError(f"`models.{name}.parameters` asks for a teacher: name one as `models.{name}.teacher`.")
        if self.list_training is not None and self.list_training.warm_start is not None:
            raise SpecError(
                f"`models.{name}.list_training.warm_start`: this part begins with what the first one learnt."
            )
        if self.list_training is not None and not models[models.cascade_retrieval].taught:
            raise SpecError(
                f"`models.{name}.list_training` reads the lists of a retrieval that is taught: add one to `models`, "
                "such as `retrieval: {kind: two_tower, teacher: autoint}`."
            )


def _check_teacher(name: str, teacher: str | None, models: ModelsConfig) -> None:
    fine = models.fine_rankers
    if teacher is not None and teacher not in fine:
        raise SpecError(f"`models.{name}.teacher`: no fine ranker `{teacher}`.{nearest(teacher, fine)}")


def _section(values: Any) -> Any:
    """Checks a model's section by the class of its stage; what is no mapping is left for pydantic to refuse."""
    if not isinstance(values, dict):
        return values
    return load(STAGES[kind_of(str(values["kind"])).stage].section).model_validate(values)


class ModelsConfig(RootModel[dict[str, Annotated[SerializeAsAny[ModelSection], BeforeValidator(_section)]]]):
    """The models by name: those that are named are trained. In YAML a list of kinds stands for all defaults."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _named_are_on(cls, values: Any) -> Any:
        if isinstance(values, list | tuple):
            twice = [name for name in values if values.count(name) > 1]
            if twice:
                raise ValueError(f"two models may not have one name. Received `{twice[0]}` twice: name one otherwise.")
            values = dict.fromkeys(values)
        if not isinstance(values, dict):
            return values
        if not values:
            raise ValueError(f"name one model at least, of the kinds {', '.join(KINDS)}.")
        for name in values:
            if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
                raise ValueError(
                    f"a model's name is small letters, digits and `_`, a letter first. Received: {name!r}."
                )
        # `two_tower:` without a value switches the model on, as it does in a list.
        return {
            name: {"kind": name, **(section or {})} if section is None or isinstance(section, dict) else section
            for name, section in values.items()
        }

    def __getitem__(self, name: str) -> ModelSection:
        return self.root[name]

    def __contains__(self, name: object) -> bool:
        return name in self.root

    @property
    def names(self) -> tuple[str, ...]:
        """The models in the order of their training: what one rests on before it, else retrieval, fine, coarse."""
        order: list[str] = []

        def add(name: str) -> None:
            for needed in self[name].rests_on(self):
                if needed in self and needed not in order:
                    add(needed)
            if name not in order:
                order.append(name)

        stages = list(STAGES)
        for name in sorted(self.root, key=lambda name: (self[name].taught, stages.index(self.stage(name)))):
            add(name)
        return tuple(order)

    def stage(self, name: str) -> str:
        """Returns the stage of a model: `retrieval`, `coarse` or `fine`."""
        return kind_of(self[name].kind).stage

    def of_stage(self, stage: str) -> tuple[str, ...]:
        """Returns the models of a stage, in the order of the configuration."""
        return tuple(name for name in self.root if self.stage(name) == stage)

    def title(self, name: str) -> str:
        """Returns how the report calls a model: its kind's title, and its name where that is neither kind nor stage."""
        kind = kind_of(self[name].kind)
        title = (kind.taught_title if self[name].taught else None) or kind.title
        return title if name in (self[name].kind, kind.stage) else f"{title} ({name})"

    @property
    def fine_rankers(self) -> tuple[str, ...]:
        """The rankers that may end a cascade."""
        return self.of_stage("fine")

    @property
    def rankers(self) -> tuple[str, ...]:
        """The rankers, the coarse ones last."""
        return (*self.fine_rankers, *self.of_stage("coarse"))

    @property
    def base_retrieval(self) -> str | None:
        """The first retrieval model that learns from takes: it signs items and retrieves for teacher lists."""
        return next((name for name in self.of_stage("retrieval") if not self[name].taught), None)

    @property
    def cascade_retrieval(self) -> str | None:
        """The retrieval model that candidates come from: the first that is taught, else `base_retrieval`."""
        return next((name for name in self.of_stage("retrieval") if self[name].taught), self.base_retrieval)

    @property
    def cascade_coarse(self) -> str | None:
        """The coarse ranker of the cascade: the first; None: there is none."""
        return next(iter(self.of_stage("coarse")), None)

    def only(self, names: Sequence[str]) -> ModelsConfig:
        """Returns these models alone.

        Raises:
          SpecError: if one of them is not switched on.
        """
        for name in names:
            if name not in self:
                raise SpecError(f"model `{name}` is not in the profile's `models`.{nearest(name, self.root)}")
        return ModelsConfig({name: section for name, section in self.root.items() if name in names})
