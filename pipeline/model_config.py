"""Which models a pipeline trains: the `models` section of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import model_validator

from evaluation.config import DistilledEvaluationConfig, EvaluationConfig, RetrievalEvaluationConfig
from features.config import SpecError, Strict, nearest
from features.examples.config import CandidateSetConfig, TeacherListsConfig
from features.items.config import SimHashConfig

#: The ranker that stands between retrieval and the fine ranker.
COARSE_RANKER = "hcn"

#: The two-towers: one that learns from takes, and one that a fine ranker teaches.
RETRIEVAL_MODELS = ("two_tower", "retrieval")


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


class RetrievalConfig(Strict):
    """The two-tower.

    Attributes:
      parameters: arguments of `models.two_tower.model.TwoTowerConfig`.
      training: arguments of `models.training.loop.TrainingConfig`.
      evaluation: cut-offs and gates.
      signatures: of the items, for the rankers' long histories.
    """

    parameters: dict[str, Any] = {}
    training: dict[str, Any] = {}
    evaluation: RetrievalEvaluationConfig = RetrievalEvaluationConfig()
    signatures: SignaturesConfig = SignaturesConfig()


class DistilledRetrievalConfig(Strict):
    """The two-tower of the cascade: it learns the fine ranker's order of the catalogue from TeacherLists.

    Attributes:
      teacher: the fine ranker.
      parameters: arguments of `models.two_tower.model.TwoTowerConfig`; `ssl` and `log_q` have no effect.
      training: arguments of `models.training.loop.TrainingConfig`; a list's group of requests is a batch.
      lists: which requests and items the teacher scores.
      evaluation: cut-offs and gates.
    """

    teacher: str
    parameters: dict[str, Any] = {}
    training: dict[str, Any] = {}
    lists: TeacherListsConfig = TeacherListsConfig()
    evaluation: DistilledEvaluationConfig = DistilledEvaluationConfig()


class RankerConfig(Strict):
    """A ranker.

    Attributes:
      parameters: arguments of the model's own configuration class (for `autoint`:
      `models.autoint.model.AutoIntConfig`).
      training: arguments of `models.training.loop.TrainingConfig`.
      tables: of its users' long histories, if it reads them through SDIM.
    """

    parameters: dict[str, Any] = {}
    training: dict[str, Any] = {}
    tables: TablesConfig = TablesConfig()


class CoarseConfig(Strict):
    """The coarse ranker. It learns from CoarseExamples, so it needs the two-tower.

    Attributes:
      parameters: arguments of `models.hcn.model.HcnConfig`.
      training: arguments of `models.training.loop.TrainingConfig`.
      candidates: the retrieved items that join the impressions.
      list_training: arguments of `models.training.loop.TrainingConfig` for a second part, on the teacher lists of
        `models.retrieval`; None: there is none.
      teacher: the fine ranker that it is distilled from (`parameters.distillation`); None: from none.
      evaluation: its own metrics and gates; None: the fine rankers'. Its scores choose candidates and are never used as
        probabilities, so it may be allowed another PCOC.
    """

    parameters: dict[str, Any] = {}
    training: dict[str, Any] = {}
    list_training: dict[str, Any] | None = None
    candidates: CandidateSetConfig = CandidateSetConfig()
    teacher: str | None = None
    evaluation: EvaluationConfig | None = None


class ModelsConfig(Strict):
    """The models that are switched on: those that are named. In YAML a list of names stands for all defaults."""

    two_tower: RetrievalConfig | None = None
    autoint: RankerConfig | None = None
    aw_moe: RankerConfig | None = None
    retrieval: DistilledRetrievalConfig | None = None
    hcn: CoarseConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_are_on(cls, values):
        if isinstance(values, list | tuple):
            values = dict.fromkeys(values)
        if isinstance(values, dict):
            # `two_tower:` without a value switches the model on, as it does in a list.
            return {name: {} if config is None else config for name, config in values.items()}
        return values

    @model_validator(mode="after")
    def _any(self):
        if not self.names:
            raise ValueError(f"`models` must name one model at least: {', '.join(type(self).model_fields)}.")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are switched on, in the order of their training: a teacher before whom it teaches."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def rankers(self) -> dict[str, RankerConfig | CoarseConfig]:
        """The rankers that are switched on, the coarse one last."""
        return {name: getattr(self, name) for name in self.names if name not in RETRIEVAL_MODELS}

    @property
    def cascade_retrieval(self) -> str:
        """The two-tower that candidates come from: the distilled one where it is on."""
        return "two_tower" if self.retrieval is None else "retrieval"

    @property
    def fine_rankers(self) -> tuple[str, ...]:
        """The rankers that may end a cascade: all but the coarse one."""
        return tuple(name for name in self.rankers if name != COARSE_RANKER)

    def only(self, names: Sequence[str]) -> ModelsConfig:
        """Returns these models alone.

        Raises:
          SpecError: if one of them is not switched on.
        """
        for name in names:
            if name not in self.names:
                raise SpecError(f"model `{name}` is not in the profile's `models`.{nearest(name, self.names)}")
        return type(self)(**{name: getattr(self, name) for name in self.names if name in names})
