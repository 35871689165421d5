"""The descriptors of TensorFlow Serving's API: for clients in languages that have no package of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor
    from google.protobuf.descriptor_pb2 import FileDescriptorSet


def protoset() -> FileDescriptorSet:
    """Returns PredictionService and ModelService with every message that they need, files before those that use them.

    What `protoc --include_imports --descriptor_set_out` would write of TensorFlow Serving's and TensorFlow's sources:
    `ghz --protoset`, `grpcurl -protoset`, `@grpc/proto-loader` and Go's `protodesc` read it.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from tensorflow_serving.apis import get_model_metadata_pb2, model_service_pb2, prediction_service_pb2

    found: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            visit(needed)
        found.setdefault(file.name, file)

    # The metadata's own message is named only in an Any.
    for module in (prediction_service_pb2, model_service_pb2, get_model_metadata_pb2):
        visit(module.DESCRIPTOR)
    collected = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(collected.file.add())
    return collected
