"""GetModelMetadata and GetModelStatus: what a server says of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc

from serving.server.status import ServingError
from serving.server.versions.loaded_model import LoadedModel
from serving.server.versions.model_manager import VersionState

if TYPE_CHECKING:
    from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
    from tensorflow_serving.apis.model_pb2 import ModelSpec


def metadata_of(model: LoadedModel) -> GetModelMetadataResponse:
    """Returns the signatures of a version."""
    from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap

    found = SignatureDefMap()
    for name, signature in model.signatures.items():
        found.signature_def[name].CopyFrom(signature)
    response = GetModelMetadataResponse()
    response.model_spec.name = model.name
    response.model_spec.version.value = model.version
    response.metadata["signature_def"].Pack(found)
    return response


def status_of(spec: ModelSpec, states: Mapping[int, VersionState]) -> GetModelStatusResponse:
    """Returns the states of a model's versions, or that of the version that the specification names.

    Raises:
      ServingError: NOT_FOUND if there are none.
    """
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

    if spec.WhichOneof("version_choice") == "version":
        version = spec.version.value
        if version not in states:
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        states = {version: states[version]}
    if not states:
        raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    response = GetModelStatusResponse()
    for version, state in states.items():
        told = response.model_version_status.add(version=version, state=state.state)
        told.status.error_code = state.error.code.value[0] if state.error else 0
        told.status.error_message = state.error.message if state.error else ""
    return response
