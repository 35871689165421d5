"""Scores candidates by gRPC: python rank.py HOST:PORT MODEL REQUEST.json

Needs `grpcio` and `tensorflow-serving-api`, which brings TensorFlow; rank_without_tensorflow.py does without.
"""

import json
import sys

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

DEADLINE_S = 1.0
# Calls go round all servers of a name, and to another one where a server is just going.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def input_types(stub, model, signature):
    """Asks which tensors a signature takes; a service asks once, when it starts."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    request.model_spec.version_label = "stable"
    answer = stub.GetModelMetadata(request, timeout=DEADLINE_S)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    return {name: info.dtype for name, info in signatures.signature_def[signature].inputs.items()}


def rank(stub, model, body):
    """Returns the answer's outputs by name, as arrays, and the version that gave them."""
    signature = body.get("signature_name", "serving_default")
    types = input_types(stub, model, signature)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.version_label = "stable"
    request.model_spec.signature_name = signature
    for name, values in body["inputs"].items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=types[name]))
    response = stub.Predict(request, timeout=DEADLINE_S)
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    return outputs, response.model_spec.version.value


if __name__ == "__main__":
    address, model, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    options = [("grpc.service_config", json.dumps(SERVICE_CONFIG))]
    with grpc.insecure_channel(address, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs, version = rank(stub, model, body)
    print(json.dumps({"version": version, "score": outputs["score"].tolist()}))
