"""Which versions of which models a server serves, under which labels, and how that stands in a models.config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from features import storage
from features.config import SpecError
from features.errors import InputError

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving.release.manifest import Release

#: The platform of SavedModels, as TensorFlow Serving names it.
PLATFORM = "tensorflow"


@dataclass(frozen=True)
class ServedModel:
    """What a server is to serve of one model.

    Attributes:
      versions: that are loaded.
      labels: label → one of the versions.
    """

    versions: frozenset[int]
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if lost := {label: version for label, version in self.labels.items() if version not in self.versions}:
            label, version = next(iter(lost.items()))
            held = ", ".join(map(str, sorted(self.versions))) or "none"
            raise InputError(f"the label `{label}` names version {version}, which is not served. Served: {held}.")


#: What a server serves: model → versions and labels.
Served = Mapping[str, ServedModel]


def served_models(releases: Mapping[str, Release]) -> dict[str, ServedModel]:
    """Returns what a server is to serve so that each label answers with the models of its release.

    Args:
      releases: label → release. A model that only some of the releases have is served under their labels alone.

    Raises:
      InputError: if there is no release, or none of them has a model.
    """
    labels: dict[str, dict[str, int]] = {}
    for label, release in releases.items():
        for model in release.models:
            labels.setdefault(model.name, {})[label] = model.version
    if not labels:
        raise InputError("no release with a model is labelled: there is nothing to serve.")
    return {name: ServedModel(frozenset(held.values()), held) for name, held in sorted(labels.items())}


def to_proto(served: Served, base: str) -> ModelServerConfig:
    """Returns the configuration for TensorFlow Serving: the policy `specific` with these versions, and the labels.

    Versions are named one by one, never `latest`: what lies in a model's folder but in no labelled release, as a
    version that was not allowed, is not served.

    Args:
      served: the models.
      base: the serving root as the server sees it.
    """
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    config = ModelServerConfig()
    config.model_config_list.SetInParent()
    for name, model in sorted(served.items()):
        found = config.model_config_list.config.add(
            name=name, base_path=storage.join(base, name), model_platform=PLATFORM
        )
        found.model_version_policy.specific.versions.extend(sorted(model.versions))
        for label, version in sorted(model.labels.items()):
            found.version_labels[label] = version
    return config


def to_text(served: Served, base: str, *comments: str) -> str:
    """Returns a models.config: the text of `to_proto`, with lines of comment above it."""
    from google.protobuf import text_format

    return "".join(f"# {line}\n" for line in comments) + text_format.MessageToString(to_proto(served, base))


def read_config(path: storage.AnyPath) -> tuple[dict[str, ServedModel], str]:
    """Reads a models.config that names its versions, and returns what it serves and the base of its models.

    Raises:
      NotFoundError: if there is no such file.
      SpecError: if it is no models.config, or serves other than by the policy `specific` below one base.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        config = text_format.Parse(storage.read_text(path), ModelServerConfig())
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise SpecError(f"{path}: not a models.config of TensorFlow Serving: {error}.") from error
    served, bases = {}, set()
    for model in config.model_config_list.config:
        versions = frozenset(model.model_version_policy.specific.versions)
        if not versions:
            raise SpecError(f"{path}: `{model.name}` names no versions. Only the policy `specific` can be switched.")
        served[model.name] = ServedModel(versions, dict(model.version_labels))
        bases.add(storage.parent(model.base_path))
    if len(bases) != 1:
        raise SpecError(f"{path}: its models lie below {len(bases)} folders; those of a serving root lie in one.")
    return served, bases.pop()
