"""Predict: the checks of a request in TensorFlow Serving's order and words, the run, and the answer.

See servables/tensorflow/predict_util.cc of tensorflow/serving and cc/saved_model/util.cc of tensorflow/tensorflow.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import grpc
import numpy as np

from serving.server.inference.tensor_protos import decode, encode
from serving.server.server_metrics import ServerMetrics
from serving.server.status import ServingError, invalid_argument
from serving.server.versions.loaded_model import DEFAULT_SIGNATURE, LoadedModel

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


def run_predict(
    model: LoadedModel,
    request: PredictRequest,
    metrics: ServerMetrics,
    timeout_s: float | None = None,
    as_content: bool = False,
) -> PredictResponse:
    """Answers a request with a loaded version.

    Args:
      model: the version.
      request: whose model specification has been looked up.
      metrics: where the time of the run is noted.
      timeout_s: after which the run is cancelled.
      as_content: whether the answer's tensors are raw bytes rather than repeated fields.

    Raises:
      ServingError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs or an output filter that
        do not fit it, and whatever the run ends by.
    """
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    tensors_of = model.tensors[name]
    feeds = _feeds(signature, tensors_of.inputs, request)
    aliases = _wanted(tensors_of.outputs, request.output_filter)
    names = [tensors_of.outputs[alias] for alias in aliases]
    fetches = list(dict.fromkeys(names))  # a tensor under two names is fetched once
    begun = time.perf_counter()
    tensors = dict(zip(fetches, model.run(feeds, fetches, timeout_s), strict=True))
    metrics.observe_runtime(request.model_spec.name, "Predict", time.perf_counter() - begun)
    response = PredictResponse()
    fill_model_spec(response.model_spec, request.model_spec.name, name, model.version)
    for alias, tensor in zip(aliases, names, strict=True):
        encode(tensors[tensor], response.outputs[alias], as_content)
    return response


def fill_model_spec(spec, name: str, signature: str, version: int) -> None:
    """Writes which model, version and signature answered into an answer's `ModelSpec`."""
    spec.name = name
    spec.signature_name = signature or DEFAULT_SIGNATURE
    spec.version.value = version


def _feeds(signature: SignatureDef, inputs: Mapping[str, str], request: PredictRequest) -> dict[str, np.ndarray]:
    """The request's inputs by the names of the tensors that they feed, and the defaults of those that it lacks."""
    given, defaults = request.inputs, signature.defaults
    if len(given) > len(inputs) or len(given) < len(inputs) and not defaults:
        raise invalid_argument(_other_count(set(given), set(inputs)))
    feeds = {}
    for alias, tensor in inputs.items():
        if alias in given:
            proto = given[alias]
        elif alias in defaults:
            proto = defaults[alias]
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {tensor}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_listed(given)}}}, or default input alias set: "
                f"{_listed(defaults)}"
            )
        try:
            feeds[tensor] = decode(proto)
        except ValueError as error:
            raise invalid_argument(f"tensor parsing error: {alias}") from error
    return feeds


def _other_count(given: set[str], inputs: set[str]) -> str:
    return (
        f"input size does not match signature: {len(given)}!={len(inputs)} len({{{_listed(given)}}}) != "
        f"len({{{_listed(inputs)}}}). Sent extra: {{{_listed(given - inputs)}}}. "
        f"Missing but required: {{{_listed(inputs - given)}}}."
    )


def _wanted(outputs: Mapping[str, str], output_filter: Iterable[str]) -> list[str]:
    """The names of the outputs that the request asks for; all of them if it names none."""
    found: list[str] = []
    for alias in output_filter:
        if alias not in outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_listed(outputs)}}}."
            )
        if alias in found:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        found.append(alias)
    return found or list(outputs)


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
