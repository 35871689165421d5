"""Status and metadata answers as JSON, the way protobuf's C++ printer writes them (http_rest_api_util.cc)."""

from __future__ import annotations

import inspect
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

# Newer versions of protobuf have another name for "fields that are not set are written too".
_PRINT_ALL = (
    "always_print_fields_with_no_presence"
    if "always_print_fields_with_no_presence" in inspect.signature(json_format.MessageToJson).parameters
    else "including_default_value_fields"
)


def status_json(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """Returns the states of a model's versions; the version numbers are strings."""
    return _written(response, preserving_proto_field_name=False)


def metadata_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """Returns a model's name and version, and its signatures."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec = _written(response.model_spec, preserving_proto_field_name=True)
    table = _written(signatures, preserving_proto_field_name=True)
    return b'{\n"model_spec":' + spec + b',\n"metadata": {"signature_def": ' + table + b"}\n}\n"


def _written(message: Any, preserving_proto_field_name: bool) -> bytes:
    options = {_PRINT_ALL: True, "preserving_proto_field_name": preserving_proto_field_name}
    return (json_format.MessageToJson(message, indent=1, ensure_ascii=False, **options) + "\n").encode()
