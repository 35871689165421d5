"""What the pipeline knows of each model: its configuration class, how it is built, what it reads.

Heavy imports happen inside the functions: a configuration is checked without TensorFlow until a model is asked for.
"""

from __future__ import annotations

from typing import Any

from features.config import SpecError, nearest, parse_model
from pipeline.config import PipelineConfig
from pipeline.model_config import COARSE_RANKER, RETRIEVAL_MODELS

#: How the report calls a model.
TITLES = {
    "two_tower": "SSL two-tower",
    "autoint": "AutoInt",
    "aw_moe": "AW-MoE",
    "retrieval": "Distilled two-tower",
    "hcn": "HCN",
}


def parse_parameters(name: str, parameters: dict[str, Any]):
    """Checks `models.<name>.parameters` against the model's own configuration class.

    Raises:
      SpecError: for an unknown key or a wrong value.
    """
    return parse_model(parameters, _config_class(name), f"models.{name}.parameters")


def make_ranker(name: str, config, encoding, item_signatures):
    """Builds a ranker.

    Args:
      name: of the model.
      config: of `parse_parameters`.
      encoding: the feature encoding.
      item_signatures: where the ranker reads long histories by them, else None.
    """
    if name == "autoint":
        from models.autoint.model import AutoInt

        return AutoInt(encoding, config, item_signatures)
    if name == "aw_moe":
        from models.aw_moe.model import AwMoe

        return AwMoe(encoding, config, item_signatures)
    raise ValueError(f"`name` must be a ranker: autoint, aw_moe. Received: {name!r}.")


def reads_histories(config) -> bool:
    """Whether a model of this configuration needs behaviour histories in its batches."""
    return getattr(config, "history", None) is not None


def reads_tables(config) -> bool:
    """Whether a ranker of this configuration is served with bucket tables of long histories."""
    return reads_histories(config) and config.history.long == "sdim"


def reads_signatures(config) -> bool:
    """Whether a ranker of this configuration looks item signatures up that BehaviorSignatures made."""
    return reads_tables(config) and config.history.signature_source == "two_tower"


def check_models(config: PipelineConfig) -> dict[str, Any]:
    """Returns the checked configuration of every model that is switched on, by name.

    Raises:
      SpecError: for an unknown key or a wrong value, or if a ranker's signatures have no two-tower to come from.
    """
    checked = {name: parse_parameters(name, getattr(config.models, name).parameters) for name in config.models.names}
    if config.models.retrieval is not None:
        _check_distilled(config)
    if config.models.hcn is not None:
        _check_coarse(config, checked["hcn"])
    for name in config.models.rankers:
        if reads_histories(checked[name]) and config.feature_spec.history is None:
            raise SpecError(f"`models.{name}.parameters.history` needs a `history` in the feature spec.")
        if reads_signatures(checked[name]) and config.models.two_tower is None:
            raise SpecError(
                f"`models.{name}` reads item signatures, which come from the two-tower: add `two_tower` to `models`, "
                f"or set `models.{name}.parameters.history.signature_source` to end_to_end."
            )
    return checked


def select_models(config: PipelineConfig, names: list[str]) -> PipelineConfig:
    """Returns the pipeline with these models and what they rest on: teachers, and the two-tower of their signatures.

    The cascade is judged only where its retrieval and its fine ranker are both asked for.

    Raises:
      SpecError: if a model is not in the profile.
    """
    config.models.only(names)
    selected = list(names)
    for name in selected:  # which grows meanwhile
        selected += [n for n in _rests_on(config, name) if n in config.models.names and n not in selected]
    changes = {"models": config.models.only(selected)}
    if not {changes["models"].cascade_retrieval, config.cascade_ranker} <= set(names):
        changes["cascade"] = None
    return config.model_copy(update=changes)


def _rests_on(config: PipelineConfig, name: str) -> list[str]:
    """The models that are trained before a model because it learns from them."""
    model = getattr(config.models, name)
    if name == "retrieval":
        return ["two_tower", model.teacher]
    if name == COARSE_RANKER:
        return [config.models.cascade_retrieval, *([model.teacher] if model.teacher else [])]
    if name == "two_tower" or not reads_signatures(parse_parameters(name, model.parameters)):
        return []
    return ["two_tower"]


def _check_distilled(config: PipelineConfig) -> None:
    fine, teacher = config.models.fine_rankers, config.models.retrieval.teacher
    if config.models.two_tower is None:
        raise SpecError(
            "`models.retrieval` learns from lists that hold what the two-tower retrieves: add `two_tower` to `models`."
        )
    if teacher not in fine:
        raise SpecError(f"`models.retrieval.teacher`: no fine ranker `{teacher}`.{nearest(teacher, fine)}")


def _check_coarse(config: PipelineConfig, checked) -> None:
    coarse = config.models.hcn
    if config.feature_spec.history is None:
        raise SpecError("`models.hcn` reads histories: name a `history` in the feature spec.")
    if config.models.two_tower is None:
        raise SpecError("`models.hcn` learns from what the two-tower retrieves: add `two_tower` to `models`.")
    others = [name for name in config.models.rankers if name != "hcn"]
    if coarse.teacher is not None and coarse.teacher not in others:
        raise SpecError(f"`models.hcn.teacher`: no ranker `{coarse.teacher}`.{nearest(coarse.teacher, others)}")
    if coarse.teacher is None and (checked.distillation or checked.unshown_labels == "teacher"):
        raise SpecError("`models.hcn.parameters` asks for a teacher: name a fine ranker as `models.hcn.teacher`.")
    if coarse.list_training is not None and config.models.retrieval is None:
        raise SpecError("`models.hcn.list_training` reads the lists of `models.retrieval`: add it to `models`.")


def _config_class(name: str):
    if name in RETRIEVAL_MODELS:
        from models.two_tower.config import TwoTowerConfig

        return TwoTowerConfig
    if name == "aw_moe":
        from models.aw_moe.config import AwMoeConfig

        return AwMoeConfig
    if name == "hcn":
        from models.hcn.config import HcnConfig

        return HcnConfig
    from models.autoint.config import AutoIntConfig

    return {"autoint": AutoIntConfig}[name]
