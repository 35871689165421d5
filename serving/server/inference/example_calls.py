"""Classify, Regress and MultiInference on a loaded version.

See servables/tensorflow/{classifier,regressor,multi_inference}.cc of tensorflow/serving.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc

from serving.server.inference.examples import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    classify_call,
    fill_classifications,
    fill_regressions,
    regress_call,
    serialized_examples,
)
from serving.server.inference.prediction import fill_model_spec
from serving.server.server_metrics import ServerMetrics
from serving.server.status import ServingError, invalid_argument
from serving.server.versions.loaded_model import DEFAULT_SIGNATURE, LoadedModel

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResponse
    from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
    from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

#: What a task is by its method: the check of its signature, the field of its result, and how that is filled.
_TASKS = {
    CLASSIFY_METHOD: (classify_call, "classification_result", fill_classifications),
    REGRESS_METHOD: (regress_call, "regression_result", fill_regressions),
}


def run_classify(
    model: LoadedModel, request: ClassificationRequest, metrics: ServerMetrics, timeout_s: float | None = None
) -> ClassificationResponse:
    """Answers a Classify request with a loaded version.

    Args:
      model: the version.
      request: whose model specification has been looked up.
      metrics: where the time of the run is noted.
      timeout_s: after which the run is cancelled.

    Raises:
      ServingError: INVALID_ARGUMENT for a signature that is no classifier or an input without examples, and whatever
        the run ends by.
    """
    from tensorflow_serving.apis.classification_pb2 import ClassificationResponse

    response = ClassificationResponse()
    _run_one(model, request, response, CLASSIFY_METHOD, "Classify", metrics, timeout_s)
    return response


def run_regress(
    model: LoadedModel, request: RegressionRequest, metrics: ServerMetrics, timeout_s: float | None = None
) -> RegressionResponse:
    """Answers a Regress request with a loaded version; arguments and errors as of `run_classify`."""
    from tensorflow_serving.apis.regression_pb2 import RegressionResponse

    response = RegressionResponse()
    _run_one(model, request, response, REGRESS_METHOD, "Regress", metrics, timeout_s)
    return response


def _run_one(model, request, response, method: str, api: str, metrics: ServerMetrics, timeout_s: float | None) -> None:
    """Runs the signature of a Classify or Regress request and fills the answer."""
    call_of, _, fill = _TASKS[method]
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    call = call_of(signature)
    examples = serialized_examples(request.input)
    fetches = list(dict.fromkeys(call.fetches))
    begun = time.perf_counter()
    tensors = dict(zip(fetches, model.run({call.feed: examples}, fetches, timeout_s), strict=True))
    metrics.observe_runtime(request.model_spec.name, api, time.perf_counter() - begun)
    fill_model_spec(response.model_spec, request.model_spec.name, name, model.version)
    fill(signature, tensors, len(examples), response.result)


def run_multi_inference(
    model: LoadedModel, request: MultiInferenceRequest, metrics: ServerMetrics, timeout_s: float | None = None
) -> MultiInferenceResponse:
    """Answers several Classify and Regress tasks over the same examples by one run.

    Args:
      model: the version that the first task names.
      request: its tasks and the examples.
      metrics: where the number of examples is noted.
      timeout_s: after which the run is cancelled.

    Raises:
      ServingError: INVALID_ARGUMENT for tasks of two models, of one signature twice or of unknown signatures,
        UNIMPLEMENTED for other methods, and whatever the run ends by.
    """
    from tensorflow_serving.apis.inference_pb2 import MultiInferenceResponse

    signatures = _checked_tasks(model, request)
    calls = [_TASKS[task.method_name][0](signatures[place]) for place, task in enumerate(request.tasks)]
    examples = serialized_examples(request.input)
    fetches = sorted({fetch for call in calls for fetch in call.fetches})
    found = model.run({call.feed: examples for call in calls}, fetches, timeout_s)
    tensors = dict(zip(fetches, found, strict=True))
    metrics.observe_examples(request.tasks[0].model_spec.name, len(examples))
    response = MultiInferenceResponse()
    for task, signature in zip(request.tasks, signatures, strict=True):
        _, field, fill = _TASKS[task.method_name]
        result = response.results.add()
        fill(signature, tensors, len(examples), getattr(result, field))
        fill_model_spec(result.model_spec, task.model_spec.name, task.model_spec.signature_name, model.version)
    return response


def _checked_tasks(model: LoadedModel, request: MultiInferenceRequest) -> list[SignatureDef]:
    """The signature of each task, checked task by task in TensorFlow Serving's order."""
    model_name, found = "", {}
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if model_name and spec.name != model_name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        model_name = spec.name
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in found:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        if name not in model.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _TASKS:
            message = f"Unsupported signature method_name: {task.method_name}"
            raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
        _TASKS[task.method_name][0](model.signatures[name])
        found[name] = model.signatures[name]
    return list(found.values())
