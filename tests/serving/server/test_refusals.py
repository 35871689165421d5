"""Every refusal of the gRPC interface: its code and TensorFlow Serving's text."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.status import ServingError
from tests.serving.server.serving_case import floats, predict_request, refused

X = floats(1.0, 2.0)
NOT_A_TENSOR = tensor_pb2.TensorProto(dtype=1, tensor_content=b"abc", tensor_shape={"dim": [{"size": 2}]})
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def rows(**inputs):
    return predict_request("kinds", "rows", **inputs)


def with_filter(*aliases):
    request = predict_request("kinds", "rows", id=np.array([1]), x=np.ones([1, 3], np.float32))
    request.output_filter.extend(aliases)
    return request


ID, ROW = np.array([1, 2], np.int64), np.ones([2, 3], np.float32)
PREDICT = {
    "no specification": (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no name": (predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": (
        predict_request("nope", x=X),
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    ),
    "unknown version": (
        predict_request("half_plus_two", version=7, x=X),
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, 7)",
    ),
    "version that is not loaded": (
        predict_request("half_plus_two", version=1, x=X),
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, 1)",
    ),
    "negative version": (
        predict_request("half_plus_two", version=-1, x=X),
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, -1)",
    ),
    "path as a name": (
        predict_request("../half_plus_two", x=X),
        "NOT_FOUND",
        "Servable not found for request: Latest(../half_plus_two)",
    ),
    "unknown label": (
        predict_request("half_plus_two", label="stable", x=X),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    "label of an unknown model": (
        predict_request("nope", label="../../1", x=X),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: ../../1",
    ),
    "unknown signature": (
        predict_request("half_plus_two", "nope", x=X),
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    ),
    "no default signature": (
        predict_request("kinds", x=X),
        "FAILED_PRECONDITION",
        'Serving signature key "serving_default" not found.',
    ),
    "an input too few": (
        rows(x=ROW),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=2 len({x}) != len({id,x}). Sent extra: {}. "
        "Missing but required: {id}.",
    ),
    "inputs too many": (
        rows(x=ROW, id=ID, zed=X, a=X),
        "INVALID_ARGUMENT",
        "input size does not match signature: 4!=2 len({a,id,x,zed}) != len({id,x}). Sent extra: {a,zed}. "
        "Missing but required: {}.",
    ),
    "another input": (
        rows(y=ROW, x=ROW),
        "INVALID_ARGUMENT",
        "Signature input alias: id(feed name: rows_id:0) not found in request and no default value provided. Inputs "
        "expected to be in the request {x,y}, or default input alias set: ",
    ),
    "no tensor": (
        predict_request("half_plus_two", x=NOT_A_TENSOR),
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    "unknown output": (
        with_filter("nope"),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: nope Outputs expected to be in the set {score,twice}.",
    ),
    "an output twice": (
        with_filter("score", "score"),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: score",
    ),
    "another type": (
        rows(id=ID.astype(np.int32), x=ROW),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be int64 but int32 is provided",
    ),
    "a second argument of another type": (
        rows(id=ID, x=ROW.astype(np.float64)),
        "INVALID_ARGUMENT",
        "Expects arg[1] to be float but double is provided",
    ),
    "strings for numbers": (
        rows(id=ID, x=np.array([b"1"], object)),
        "INVALID_ARGUMENT",
        "Expects arg[1] to be float but string is provided",
    ),
}


@pytest.mark.parametrize("case", PREDICT)
def test_predict(toy_server, case):
    request, code, text = PREDICT[case]
    assert refused(toy_server.prediction.Predict, request) == (code, text)
    if request.model_spec.name:
        from_core = pytest.raises(ServingError, toy_server.server.core.predict, request).value
        assert (from_core.code.name, from_core.message) == (code, text)


def test_rows_that_do_not_fit_are_the_operation_s_to_refuse(toy_server):
    code, text = refused(toy_server.prediction.Predict, rows(id=np.arange(3), x=ROW))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith(("Incompatible shapes: [2] vs. [3]\n\t [[{{", "Incompatible shapes: [3] vs. [2]\n\t [[{{"))
    assert "Graph execution error" not in text


def test_shapes_are_not_checked_before_the_operations_see_them(toy_server):
    wide = np.ones([2, 4], np.float32)  # the signature says [?, 3]
    answer = toy_server.prediction.Predict(rows(id=ID, x=wide))
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["score"]), [5.0, 6.0])


def test_texts_are_cut_at_1024_bytes_over_grpc_alone(toy_server):
    request = predict_request("é" * 1000, x=X)
    code, text = refused(toy_server.prediction.Predict, request)
    assert code == "NOT_FOUND" and text.endswith("é...TRUNCATED")
    assert 1023 <= len(text.removesuffix("...TRUNCATED").encode()) <= 1024
    whole = pytest.raises(ServingError, toy_server.server.core.predict, request).value
    assert whole.message == f"Servable not found for request: Latest({'é' * 1000})"


def example_input(count: int = 1):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(3.0)
    return {"example_list": {"examples": [example] * count}}


def spec(name="half_plus_two", signature=""):
    return {"name": name, "signature_name": signature}


EXAMPLES = {
    "classify_x_to_y": (
        "Regress",
        "No regression outputs found in SignatureDef: ",
    ),
    "serving_default": ("Classify", "No classification inputs found in SignatureDef: "),
    "other_input": ("Regress", "No regression inputs found in SignatureDef: "),
    "regress_x_to_y": (
        "Classify",
        'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: ',
    ),
    "three_outputs": ("Classify", "Expected one or two output Tensors, found 3"),
    "classify_labelled": ("Regress", "Expected one output Tensor."),
    "nope": ("Classify", "No signature was found with the name: nope"),
    "regress_cube": (
        "Regress",
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,1,1]",
    ),
    "classify_flat": ("Classify", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
}


@pytest.mark.parametrize("signature", EXAMPLES)
def test_classify_and_regress(toy_server, signature):
    method, text = EXAMPLES[signature]
    kind = {"Classify": classification_pb2.ClassificationRequest, "Regress": regression_pb2.RegressionRequest}[method]
    call = getattr(toy_server.prediction, method)
    code, said = refused(call, kind(model_spec=spec(signature=signature), input=example_input()))
    assert code == "INVALID_ARGUMENT" and said.startswith(text)
    assert len(text) > len("No regression inputs found") or said == text
    assert refused(call, kind()) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert refused(call, kind(model_spec=spec("nope"))) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    )


@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_more_than_one_input(toy_server, method):
    kind = {"Classify": classification_pb2.ClassificationRequest, "Regress": regression_pb2.RegressionRequest}[method]
    request = kind(model_spec=spec("kinds", "add"), input=example_input())
    call = getattr(toy_server.prediction, method)
    assert refused(call, request) == ("INVALID_ARGUMENT", "Expected one input Tensor.")


@pytest.mark.parametrize(
    "examples", [{}, {"example_list": {}}, {"example_list_with_context": {"context": tf.train.Example()}}]
)
def test_no_examples(toy_server, examples):
    request = regression_pb2.RegressionRequest(model_spec=spec(signature="regress_x_to_y"), input=examples)
    assert refused(toy_server.prediction.Regress, request) == ("INVALID_ARGUMENT", "Input is empty.")


def task(name="half_plus_two", signature="regress_x_to_y", method=REGRESS):
    return {"model_spec": spec(name, signature), "method_name": method}


TASKS = {
    "none": ([], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": ([task("nope")], "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    "two models": (
        [task(), task("kinds")],
        "INVALID_ARGUMENT",
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "no name": ([task(), task("")], "INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
    "twice": ([task(), task()], "INVALID_ARGUMENT", "Duplicate evaluation of signature: regress_x_to_y"),
    "unknown signature": (
        [task(signature="nope")],
        "INVALID_ARGUMENT",
        "Requested signature not found in model graph: nope",
    ),
    "another method": (
        [task(method="tensorflow/serving/predict")],
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
}


@pytest.mark.parametrize("case", TASKS)
def test_multi_inference(toy_server, case):
    tasks, code, text = TASKS[case]
    request = inference_pb2.MultiInferenceRequest(tasks=tasks, input=example_input())
    assert refused(toy_server.prediction.MultiInference, request) == (code, text)


METADATA = {
    "no specification": ({"metadata_field": ["signature_def"]}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no field": (
        {"model_spec": spec("nope")},
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "another field": (
        {"model_spec": spec("nope"), "metadata_field": ["signature_def", "x"]},
        "INVALID_ARGUMENT",
        "Metadata field x is not supported",
    ),
    "unknown model": (
        {"model_spec": spec("nope"), "metadata_field": ["signature_def"]},
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata(toy_server, case):
    values, code, text = METADATA[case]
    request = get_model_metadata_pb2.GetModelMetadataRequest(**values)
    assert refused(toy_server.prediction.GetModelMetadata, request) == (code, text)


STATUS = {
    "no specification": ({}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no name": ({"model_spec": spec("")}, "NOT_FOUND", "Could not find any versions of model "),
    "unknown model": ({"model_spec": spec("nope")}, "NOT_FOUND", "Could not find any versions of model nope"),
    "unknown version": (
        {"model_spec": {"name": "kinds", "version": {"value": 7}}},
        "NOT_FOUND",
        "Could not find version 7 of model kinds",
    ),
}


@pytest.mark.parametrize("case", STATUS)
def test_status(toy_server, case):
    values, code, text = STATUS[case]
    request = get_model_status_pb2.GetModelStatusRequest(**values)
    assert refused(toy_server.model.GetModelStatus, request) == (code, text)


def test_other_methods_and_bytes_that_are_no_request(toy_server):
    def call(method, message):
        return refused(toy_server.channel.unary_unary(method), message)

    assert call("/tensorflow.serving.SessionService/SessionRun", b"")[0] == "UNIMPLEMENTED"
    assert call("/tensorflow.serving.PredictionService/Nope", b"")[0] == "UNIMPLEMENTED"
    assert call("/tensorflow.serving.PredictionService/Predict", b"\xff\xff")[0] == "INTERNAL"
    toy_server.prediction.Predict(predict_request("half_plus_two", x=X), timeout=60)


def test_the_texts_are_those_of_the_runtime(toy_server):
    """The reference is TensorFlow's own C API, which the embedded server must not stand between."""
    with toy_server.server.core.manager.use("kinds") as model:
        session, tensor = model._session, model._outputs
        feeds = {tensor["rows_id:0"]: ID.astype(np.int32), tensor["rows_x:0"]: ROW}
        fetches = [tensor[model.signatures["rows"].outputs["score"].name]]
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            session._call_tf_sessionrun(None, feeds, fetches, [], None)
    _, code, text = PREDICT["another type"]
    assert caught.value.message == text and grpc.StatusCode[code].value[0] == caught.value.error_code
