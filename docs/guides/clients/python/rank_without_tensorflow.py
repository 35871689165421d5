"""Scores candidates by gRPC and without TensorFlow: this file, then HOST:PORT MODEL REQUEST.json PROTOSET

Needs `grpcio`, `numpy` and `protobuf`. The messages come from `tf_serving.protoset`, which `clickmill serve config`
writes.
"""

import json
import sys

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, message_factory

DEADLINE_S = 1.0
SERVICE = "/tensorflow.serving.PredictionService/"
# Of a tensor: its number in DataType, the field of its values, its NumPy type.
KINDS = {
    1: ("float_val", np.float32),
    2: ("double_val", np.float64),
    3: ("int_val", np.int32),
    7: ("string_val", object),
    9: ("int64_val", np.int64),
    10: ("bool_val", np.bool_),
}


class Client:
    """A channel and the messages of TensorFlow Serving."""

    def __init__(self, channel, protoset):
        with open(protoset, "rb") as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read()).file
        self._messages = message_factory.GetMessages(files)
        self._channel = channel

    def message(self, name):
        return self._messages[f"tensorflow.serving.{name}"]

    def call(self, method, request, answer):
        send = self._channel.unary_unary(
            SERVICE + method, type(request).SerializeToString, self.message(answer).FromString
        )
        return send(request, timeout=DEADLINE_S)

    def input_types(self, model, signature):
        """Asks which tensors a signature takes; a service asks once, when it starts."""
        request = self.message("GetModelMetadataRequest")(metadata_field=["signature_def"])
        request.model_spec.name, request.model_spec.version_label = model, "stable"
        packed = self.call("GetModelMetadata", request, "GetModelMetadataResponse").metadata["signature_def"]
        signatures = self.message("SignatureDefMap").FromString(packed.value)
        return {name: info.dtype for name, info in signatures.signature_def[signature].inputs.items()}

    def rank(self, model, body):
        """Returns the answer's outputs by name, as arrays, and the version that gave them."""
        signature = body.get("signature_name", "serving_default")
        types = self.input_types(model, signature)
        request = self.message("PredictRequest")()
        request.model_spec.name, request.model_spec.version_label = model, "stable"
        request.model_spec.signature_name = signature
        for name, values in body["inputs"].items():
            fill(request.inputs[name], types[name], values)
        response = self.call("Predict", request, "PredictResponse")
        outputs = {name: array(tensor) for name, tensor in response.outputs.items()}
        return outputs, response.model_spec.version.value


def fill(tensor, kind, values):
    """Writes nested lists into a TensorProto; a float that is None is NaN."""
    field, dtype = KINDS[kind]
    held = np.array(values, dtype)
    tensor.dtype = kind
    for size in held.shape:
        tensor.tensor_shape.dim.add(size=size)
    flat = held.ravel().tolist()
    getattr(tensor, field).extend([text.encode("utf-8") for text in flat] if kind == 7 else flat)


def array(tensor):
    """Reads a TensorProto, in either of the two forms that servers answer in."""
    field, dtype = KINDS[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = np.array(list(getattr(tensor, field)), dtype)
    # A value that stands once may stand for all.
    return values.reshape(shape) if values.size == np.prod(shape) else np.full(shape, values[-1])


if __name__ == "__main__":
    address, model, path, protoset = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    with grpc.insecure_channel(address) as channel:
        outputs, version = Client(channel, protoset).rank(model, body)
    print(json.dumps({"version": version, "score": outputs["score"].tolist()}))
