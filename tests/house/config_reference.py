"""Makes docs/reference/config.md from the configuration classes: `python -m tests.house.config_reference`.

A key's description is its line of the class's `Attributes:`, or that of its pydantic `Field`.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from enum import Enum

from pydantic import BaseModel, RootModel

from evaluation.replay.experiment.experiment_plan import ExperimentPlan
from features.config import Strict
from features.spec import FeatureSpec
from pipeline.config import PipelineConfig
from pipeline.model_kinds import KINDS, STAGES, load
from pipeline.schedule.config import Schedule
from serving.deploy.config import Deployment
from serving.experiments.config import ExperimentsConfig
from serving.gateway.config import GatewayConfig
from tests.house.structure import ROOT

PAGE = ROOT / "docs" / "reference" / "config.md"
HEAD = """# Configuration

Every key of a pipeline's YAML file, of a deployment's, a schedule's, the gateway's and experiments', from the classes
that check it; an unknown key is refused with the nearest known.
This page is written by `make docs`. A file that uses most keys: `tfx_config/simulated.yaml`; what they do together:
[pipeline.md](pipeline.md). The keys of the feature spec are in [feature_spec.md](feature_spec.md).
"""
#: Defaults that validators fill in.
FILLED = {(PipelineConfig, "run_dir"): "`runs/<name>`"}
#: Classes with a page of their own.
ELSEWHERE = {FeatureSpec: "[feature_spec.md](feature_spec.md)"}


def sections() -> dict[str, list[type[BaseModel]]]:
    """Returns the classes to describe by heading: the pipeline's, each stage's, each kind's, what serves them."""
    roots = {"The pipeline": [PipelineConfig]}
    roots["A model, by the stage of its kind"] = [load(stage.section) for stage in STAGES.values()]
    roots["`parameters`, by kind"] = [load(kind.config) for kind in KINDS.values()]
    roots["A deployment: `clickmill serve config --settings`"] = [Deployment]
    roots["The gateway: `clickmill gateway --settings`"] = [GatewayConfig]
    roots["Experiments: `clickmill gateway --experiments`"] = [ExperimentsConfig]
    roots["A schedule: `clickmill airflow export --settings`, `clickmill schedule export --settings`"] = [Schedule]
    roots["Reading an experiment: `clickmill experiment read`"] = [ExperimentPlan]
    seen: set[type] = set(ELSEWHERE)
    found = {}
    for title, classes in roots.items():
        found[title] = [inner for each in classes for inner in reached(each, seen)]
    return found


def reached(model: type[BaseModel], seen: set[type]) -> Iterator[type[BaseModel]]:
    """Yields a class, those of its keys and their variants, each once."""
    if model not in seen and not issubclass(model, RootModel):
        seen.add(model)
        yield model
        for field in model.model_fields.values():
            for inner in models_in(field.annotation):
                if inner is not Strict:
                    for each in (inner, *inner.__subclasses__()):
                        yield from reached(each, seen)


def models_in(annotation: typing.Any) -> Iterator[type[BaseModel]]:
    """Yields the pydantic classes that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from models_in(inner)


def described(model: type[BaseModel]) -> dict[str, str]:
    """Returns the description of each key that has one, the inherited ones too."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        text = re.split(r"\n\s*Attributes:\n", each.__doc__ or "", maxsplit=1)
        if issubclass(each, BaseModel) and len(text) == 2:
            lines = re.split(r"\n\s*\n", text[1].rstrip(), maxsplit=1)[0]
            indent = len(lines) - len(lines.lstrip())
            for entry in re.split(rf"(?:^|\n)\s{{{indent}}}(?=\w+:)", lines):
                name, _, what = entry.partition(":")
                if what:
                    found[name.strip()] = " ".join(what.split())
    for name, field in model.model_fields.items():
        if field.description:
            found[name] = " ".join(field.description.split())
    return {name: found[name] for name in model.model_fields if name in found}


def type_name(annotation: typing.Any) -> str:
    """Writes a type as a user of YAML knows it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(each) for each in arguments)
    if origin in (list, tuple, set, frozenset):
        inner = [type_name(each) for each in arguments if each is not Ellipsis]
        return f"list of {inner[0]}" if len(set(inner)) == 1 else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"mapping of {type_name(arguments[0])} to {type_name(arguments[1])}"
    if annotation is Strict:
        return "of the kind, below"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{each.value}`" for each in annotation)
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return "models by name, below"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ELSEWHERE.get(annotation) or f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", typing.Any: "anything"}
    return names.get(annotation) or getattr(annotation, "__name__", str(annotation))


def default_of(field: typing.Any) -> str:
    """Writes a default as YAML has it; of a section only that it may be left out."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value == {}:
        return ""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return f"`{value}`"


def describe(model: type[BaseModel]) -> Iterator[str]:
    """Yields the lines on one class."""
    summary = " ".join((model.__doc__ or "").split("Attributes:")[0].split())
    yield f"### {model.__name__}\n"
    yield f"{summary} (`{model.__module__}`)\n"
    if not model.model_fields:
        yield "No keys.\n"
        return
    yield "| key | type | default | |\n|---|---|---|---|"
    what = described(model)
    for name, field in model.model_fields.items():
        default = FILLED.get((model, name)) or default_of(field)
        cells = (f"`{name}`", type_name(field.annotation), default, what.get(name, ""))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def page() -> str:
    """Returns the text of docs/reference/config.md."""
    lines = [HEAD]
    for title, classes in sections().items():
        lines.append(f"## {title}\n")
        for model in classes:
            lines += describe(model)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
