"""models.config: reading one, what TensorFlow Serving refuses in it, and what it says is to be watched."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from features import storage
from features.errors import InputError
from serving.server.status import invalid_argument
from serving.server.versions.version_files import Policy, Watched

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

PLATFORM = "tensorflow"
#: The deprecated `model_type` that means the same.
_TENSORFLOW_TYPE = 1


def read_models_config(path: str) -> ModelServerConfig:
    """Reads a file of a `ModelServerConfig` in protobuf's text form.

    Raises:
      InputError: if it cannot be read or is none.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        return text_format.Parse(storage.read_text(path), ModelServerConfig())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}).") from error
    except text_format.ParseError as error:
        raise InputError(f"{path}: not a ModelServerConfig in text form: {error}.") from error


def config_of(models: Mapping[str, str]) -> ModelServerConfig:
    """Returns the configuration of models by name with their base paths: the latest version of each."""
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    config = ModelServerConfig()
    config.model_config_list.SetInParent()
    for name, path in models.items():
        config.model_config_list.config.add(name=name, base_path=storage.absolute(path), model_platform=PLATFORM)
    return config


def check_models(configs: Iterable[ModelConfig]) -> None:
    """Refuses a model that stands twice, or whose base path is relative.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    seen = set()
    for config in configs:
        if config.name in seen:
            raise invalid_argument(f"Illegal to list model {config.name} multiple times in config list")
        seen.add(config.name)
    for config in configs:
        if storage.is_local(config.base_path) and not posixpath.isabs(config.base_path):
            raise invalid_argument(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )


def check_platforms(old: Iterable[ModelConfig], new: Iterable[ModelConfig]) -> None:
    """Refuses a model whose platform changes.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    before = {config.name: platform_of(config) for config in old}
    for config in new:
        if config.name in before and platform_of(config) != before[config.name]:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {config.name} platform was {before[config.name]} and "
                f"new platform requested is {platform_of(config)}"
            )


def platform_of(config: ModelConfig) -> str:
    """Returns the platform that a model names.

    Raises:
      ServingError: INVALID_ARGUMENT if it names none, or names it in two ways.
    """
    if config.model_type:
        if config.model_platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {config.name}"
            )
        if config.model_type != _TENSORFLOW_TYPE:
            raise invalid_argument(f"ModelServerConfig::model_type choice {config.model_type} not supported.")
        return PLATFORM
    if not config.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {config.name}"
        )
    return config.model_platform


def watched_models(configs: Iterable[ModelConfig]) -> list[Watched]:
    """Returns what a configuration wants watched.

    Raises:
      ServingError: INVALID_ARGUMENT for a platform that is not served.
    """
    found = []
    for config in configs:
        platform = platform_of(config)
        if platform != PLATFORM:
            raise invalid_argument(f"Model {config.name} requests unsupported platform {platform}")
        if "\0" in config.base_path:
            raise invalid_argument(f"Model {config.name} has a base_path with a zero byte")
        found.append(Watched(config.name, config.base_path, _policy(config)))
    return found


def _policy(config: ModelConfig) -> Policy:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return Policy(everything=True)
    if choice == "specific":
        return Policy(versions=tuple(policy.specific.versions))
    return Policy(latest=max(policy.latest.num_versions, 1))


def check_roots(configs: Iterable[ModelConfig], roots: Iterable[str]) -> None:
    """Refuses a base path that lies below none of the folders that may be served from; no folders allow any.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    allowed = [_normal(root) for root in roots]
    for config in configs if allowed else ():
        path = _normal(config.base_path)
        if not any(path == root or path.startswith(root.rstrip("/") + "/") for root in allowed):
            raise invalid_argument(
                f"Model {config.name} has base_path {config.base_path}, which is not below a folder that this server "
                "may serve from"
            )


def _normal(path: str) -> str:
    """A path without `..` and links: what it leads to is what counts."""
    import os

    return os.path.realpath(path) if storage.is_local(path) else posixpath.normpath(path)
