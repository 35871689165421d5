"""What every configuration class of Clickmill rests on: strict pydantic models, YAML, errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from typing_extensions import Self

from features import storage
from features.errors import InputError

_UNKNOWN_KEY = "unknown_key"

Model = TypeVar("Model", bound=BaseModel)


class SpecError(InputError):
    """A configuration file that cannot be used. The message names the file, the key and the fix."""


class Strict(BaseModel):
    """A pydantic model that refuses unknown keys and cannot be changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_nearest(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as error:
            problems = [_with_nearest(problem, cls.model_fields) for problem in error.errors()]
            raise ValidationError.from_exception_data(error.title, problems) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean …?`, or nothing where no known name is near; upper and lower case count as equal."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" Did you mean `{folded[close[0]]}`?" if close else ""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that a mapping holds twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if key.value != "<<" and keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key `{key.value}` stands twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: storage.AnyPath) -> dict[str, Any]:
    """Reads a mapping from a YAML file. Raises `SpecError` if the file is missing or holds anything else."""
    try:
        values = yaml.load(storage.read_text(path), _UniqueKeys)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text (byte {error.start}): save the file as UTF-8.") from error
    except RecursionError as error:
        raise SpecError(f"{path}: not usable YAML: it is nested too deep to be a configuration.") from error
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
        raise SpecError("\n".join(f"{source}: {line}" for line in _explain(error))) from error


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "top level"
        if problem["type"] == _UNKNOWN_KEY:
            lines.append(f"`{where}` {problem['msg']}")
        else:
            received = "" if isinstance(problem["input"], dict | list) else f" Received: {problem['input']!r}"
            lines.append(f"`{where}`: {problem['msg']}.{received}")
    return lines


def _with_nearest(problem: ErrorDetails, known: Iterable[str]) -> InitErrorDetails:
    """A problem of a model as it is, but for an unknown key, which is told with the nearest of those that are known."""
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden" and len(problem["loc"]) == 1:
        kind, message = _UNKNOWN_KEY, f"is not a known key.{nearest(str(problem['loc'][0]), known)}"
    told = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=told, loc=problem["loc"], input=problem["input"])
