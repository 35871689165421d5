"""What every configuration class of Clickmill rests on: strict pydantic models, YAML, errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from features import storage
from features.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class SpecError(InputError):
    """A configuration file that cannot be used. The message names the file, the key and the fix."""


class Strict(BaseModel):
    """A pydantic model that refuses unknown keys and cannot be changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean …?`, or nothing where no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def read_yaml(path: storage.AnyPath) -> dict[str, Any]:
    """Reads a mapping from a YAML file. Raises `SpecError` if the file is missing or holds anything else."""
    try:
        values = yaml.safe_load(storage.read_text(path))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise SpecError(f"{path}: expected a mapping at the top. Received: {type(values).__name__}.")
    return values


def parse_model(values: Mapping[str, Any], model: type[Model], source: str) -> Model:
    """Checks a mapping against a pydantic model.

    Raises:
      SpecError: naming the source, the key and what is wrong; unknown keys are answered with the nearest known one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SpecError("\n".join(f"{source}: {line}" for line in _explain(error, model))) from error


def _explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            lines.append(f"`{where}` is not a known key.{nearest(str(problem['loc'][-1]), known)}")
        else:
            received = "" if isinstance(problem["input"], dict | list) else f" Received: {problem['input']!r}"
            lines.append(f"`{where or 'top level'}`: {problem['msg']}.{received}")
    return lines


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the (possibly nested) model at `location` knows."""
    current = model
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(str(part))
        nested = _model_in(field.annotation) if field else None
        if nested is None:
            return []
        current = nested
    return list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        nested = _model_in(argument)
        if nested is not None:
            return nested
    return None
