"""Which version a call means: by number, by label, or none, which means the latest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import grpc

from serving.server.status import ServingError, invalid_argument

if TYPE_CHECKING:
    from tensorflow_serving.apis.model_pb2 import ModelSpec
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

_NOTHING: Mapping = MappingProxyType({})


class Routing(NamedTuple):
    """Labels and defaults of all models at one moment; replaced whole, so that no call sees half of a change.

    Attributes:
      labels: versions by label, by model.
      defaults: the version that calls without one get, by model; without an entry it is the highest available.
    """

    labels: Mapping[str, Mapping[str, int]] = _NOTHING
    defaults: Mapping[str, int] = _NOTHING

    def version(self, spec: ModelSpec) -> int | None:
        """Returns the version that a model specification means; None means the highest available.

        Raises:
          ServingError: INVALID_ARGUMENT without a name, or with an unknown label.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            version = self.labels.get(spec.name, _NOTHING).get(spec.version_label)
            if version is None:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            return version
        return self.defaults.get(spec.name)


def new_labels(
    configs: list[ModelConfig],
    old: Routing,
    available: Callable[[str], list[int]],
    before_load: bool = False,
) -> dict[str, dict[str, int]]:
    """Returns the labels that a configuration gives, by model.

    Args:
      configs: of the models.
      old: what holds so far.
      available: the versions of a model that can be called.
      before_load: whether a label that is new may name a version that is not there yet; one that moves never may.

    Raises:
      ServingError: FAILED_PRECONDITION if a label names a version that is not available.
    """
    found: dict[str, dict[str, int]] = {}
    for config in configs:
        for label, version in config.version_labels.items():
            moves = old.labels.get(config.name, _NOTHING).get(label, version) != version
            if version not in available(config.name) and (moves or not before_load):
                raise ServingError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {config.name}, which is not currently "
                    "available for inference",
                )
            found.setdefault(config.name, {})[label] = version
    return found
