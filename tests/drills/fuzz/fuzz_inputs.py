"""Inputs of the fuzz drill: messages of gRPC and requests of REST, right, nearly right, and any bytes."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
)

from tests.serving.server.toy_models import IDENTITIES

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"


class GrpcInput(NamedTuple):
    """A message of gRPC: the method's path, and the bytes."""

    method: str
    body: bytes


class RestInput(NamedTuple):
    """A request of REST."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


#: Names, versions and labels that climb out of a folder, or are nearly right.
NAMES = st.sampled_from(
    [
        *("half_plus_two", "kinds", "", ".", "..", "../outside", "../../outside/1", "/etc/passwd", "outside"),
        *("half_plus_two/1", "half_plus_two/../../outside", "..\\outside", "%2e%2e", "%2e%2e/outside", "a\0b", "\0"),
        *("file:///etc", "gs://bucket/x", "memory://x", "~", "$HOME", "{BASE}", "💥", "a" * 5000, "stable", "1", "-1"),
    ]
) | st.text(max_size=20)
#: Signatures of `kinds`, but for those that take as long as they are told to.
SIGNATURES = st.sampled_from(
    [
        *(
            "",
            "serving_default",
            "float",
            "double",
            "int64",
            "int32",
            "int8",
            "uint8",
            "uint64",
            "bool",
            "string",
            "half",
        ),
        *(
            "bfloat16",
            "complex64",
            "add",
            "rows",
            "ranks",
            "scalar",
            "scalar_beside_rows",
            "flag_beside_rows",
            "as_bytes",
        ),
        *("only_bytes", "no_inputs", "regress_x_to_y", "classify_labelled", "regress_cube", "three_outputs", "nope"),
        "__saved_model_init_op",
    ]
)
VERSIONS = st.integers(-3, 4) | st.integers(-(2**63), 2**63 - 1)
#: What mutations put in: bytes that mean something to JSON or to protobuf.
_PIECES = [
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"-", b"1e999", b"NaN", b"Infinity", b"null", b"\x00"),
    *(
        b"\xff",
        b"\x0a",
        b"\x12\x05",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"%2e%2e",
        b"../",
        b"/",
        b"%00",
        b"x",
    ),
    *(b"9223372036854775808", b'{"b64": "aGk="}', b'"x"', b"[[[[[[[["),
]
_TOKENS = re.compile(rb'[\[\]{},:]|"[^"]*"|[^\[\]{},:"\s]+')
_MARKS = (b"[", b"]", b"{", b"}", b",", b":")
_JSON_VALUES = [
    *(b"0", b"-1", b"1.0", b"1e300", b"2147483648", b"18446744073709551615", b"NaN", b"-Infinity", b"null", b"true"),
    *(
        b'""',
        b'"x"',
        b'"\\u0000"',
        b'{"b64": "aGk="}',
        b"[]",
        b"{}",
        b"[1, 2]",
        b"[[1], [2]]",
        b'"inputs"',
        b'"instances"',
    ),
]
_RARELY = st.integers(0, 4).map(lambda number: number == 4)
#: Signatures of `kinds`, with the type and the width of every input; those of any shape get lists.
INPUTS: dict[str, dict[str, tuple[str, int]]] = {
    **{name: {"x": (dtype, 0)} for name, dtype in IDENTITIES.items()},
    "add": {"a": ("float32", 0), "b": ("float32", 0)},
    "rows": {"id": ("int64", 0), "x": ("float32", 3)},
    "ranks": {"user": ("float32", 0), "items": ("float32", 2)},
    "scalar": {"x": ("float32", 0)},
    "flag_beside_rows": {"x": ("float32", 0)},
    "as_bytes": {"text": ("string", 0)},
    "no_inputs": {},
}
_DIMS = st.lists(st.integers(0, 3) | st.sampled_from([-1, -2, 2**31, 2**40, 2**62, 2**63 - 1]), max_size=4) | st.just(
    [1] * 300
)


@st.composite
def tensors(draw: Any) -> tensor_pb2.TensorProto:
    """A tensor: right, or with a type, a shape or values that do not go together."""
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["float32", "int64", "string", "bool", "float64", "uint8", "float16"]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        values = np.zeros(shape, object if kind == "string" else kind)
        if kind == "string":
            values[...] = draw(st.binary(max_size=8))
        return tf.make_tensor_proto(values, getattr(tf, kind), shape)
    found = tensor_pb2.TensorProto(dtype=draw(st.integers(0, 30) | st.sampled_from([101, 2**31 - 1])))
    for size in draw(_DIMS):
        found.tensor_shape.dim.add(size=size)
    found.tensor_shape.unknown_rank = draw(st.booleans())
    found.tensor_content = draw(st.binary(max_size=32))
    found.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    found.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
    found.string_val.extend(draw(st.lists(st.binary(max_size=4), max_size=3)))
    found.half_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2)))
    return found


@st.composite
def model_specs(draw: Any, spec: Any, signatures: Any = SIGNATURES) -> None:
    """Fills a ModelSpec, most often with a model that is there."""
    spec.name = _utf8(draw(NAMES)) if draw(_RARELY) else draw(st.sampled_from(["kinds", "half_plus_two"]))
    spec.signature_name = draw(signatures)
    if draw(_RARELY):
        if draw(st.booleans()):
            spec.version.value = draw(VERSIONS)
        else:
            spec.version_label = _utf8(draw(NAMES))


@st.composite
def right_predictions(draw: Any) -> predict_pb2.PredictRequest:
    """A Predict that names a signature and its inputs; mostly of their types and of one number of rows."""
    name = draw(st.sampled_from(sorted(INPUTS)))
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", name
    rows = draw(st.integers(0, 3))
    for alias, (dtype, width) in INPUTS[name].items():
        shape = [rows, width] if width else [rows]
        values = np.zeros(shape, object if dtype == "string" else tf.as_dtype(dtype).as_numpy_dtype)
        if dtype == "string":
            values[...] = draw(st.binary(max_size=8))
        right = tf.make_tensor_proto(values, tf.as_dtype(dtype), shape)
        request.inputs[alias].CopyFrom(draw(tensors()) if draw(_RARELY) else right)
    return request


@st.composite
def messages(draw: Any) -> tuple[str, Any]:
    """A method and a message of its kind."""
    kind = draw(st.sampled_from(["Predict", "Classify", "Regress", "MultiInference", "Metadata", "Status", "Reload"]))
    if kind == "Predict" and not draw(_RARELY):
        return PREDICTION + kind, draw(right_predictions())
    if kind == "Predict":
        request = predict_pb2.PredictRequest()
        draw(model_specs(request.model_spec))
        for name in draw(st.lists(st.sampled_from(["x", "a", "b", "id", "user", "items", "text", "z"]), max_size=3)):
            request.inputs[name].CopyFrom(draw(tensors()))
        request.output_filter.extend(draw(st.lists(st.sampled_from(["y", "sum", "score", "z"]), max_size=2)))
        return PREDICTION + kind, request
    if kind in ("Classify", "Regress"):
        request = classification_pb2.ClassificationRequest()  # Of the same fields as RegressionRequest.
        draw(model_specs(request.model_spec))
        _add_examples(draw, request.input)
        return PREDICTION + kind, request
    if kind == "MultiInference":
        request = inference_pb2.MultiInferenceRequest()
        for _ in range(draw(st.integers(0, 3))):
            task = request.tasks.add(method_name=draw(st.sampled_from(["tensorflow/serving/regress", "", "x"])))
            draw(model_specs(task.model_spec))
        _add_examples(draw, request.input)
        return PREDICTION + kind, request
    return draw(_model_messages(kind))


@st.composite
def _model_messages(draw: Any, kind: str) -> tuple[str, Any]:
    if kind == "Metadata":
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        draw(model_specs(request.model_spec))
        request.metadata_field.extend(draw(st.lists(st.sampled_from(["signature_def", "x", ""]), max_size=2)))
        return PREDICTION + "GetModelMetadata", request
    if kind == "Status":
        request = get_model_status_pb2.GetModelStatusRequest()
        draw(model_specs(request.model_spec))
        return MODEL + "GetModelStatus", request
    request = model_management_pb2.ReloadConfigRequest()
    # Without the right platform no reload is carried out: the models stay.
    for _ in range(draw(st.integers(1, 2))):
        model = request.config.model_config_list.config.add(name=_utf8(draw(NAMES)), base_path=_utf8(draw(NAMES)))
        model.model_platform = draw(st.sampled_from(["other", ""]))
        model.version_labels[_utf8(draw(NAMES))] = draw(VERSIONS)
    return MODEL + "HandleReloadConfigRequest", request


def _add_examples(draw: Any, input_: Any) -> None:
    examples = input_.example_list.examples
    if draw(st.booleans()):
        examples = input_.example_list_with_context.examples
    for _ in range(draw(st.integers(0, 3))):
        feature = examples.add().features.feature["x"]
        if draw(st.booleans()):
            feature.float_list.value.extend(draw(st.lists(st.floats(width=32), max_size=2)))
        else:
            feature.bytes_list.value.extend(draw(st.lists(st.binary(max_size=4), max_size=2)))


def mutate(body: bytes, chance: random.Random) -> bytes:
    """Returns bytes with a few of them changed, left out, put in or doubled."""
    for _ in range(chance.randint(1, 3)):
        at, how = chance.randint(0, len(body)), chance.choice([0, 0, 0, 0, 0, 1, 2, 3])
        if how == 0:
            body = body[:at] + bytes([chance.randint(0, 255)]) + body[at + 1 :]
        elif how == 1:
            body = body[:at] + body[at + chance.randint(1, 4) :]
        elif how == 2:
            body = body[:at] + chance.choice(_PIECES) + body[at:]
        else:
            body = body[:at] + body[max(0, at - 8) :]
    return body


def mutate_json(body: bytes, chance: random.Random) -> bytes:
    """Returns a JSON text with a value, a key or a mark replaced by another."""
    tokens = _TOKENS.findall(body)
    values = [at for at, token in enumerate(tokens) if token not in _MARKS]
    if values and chance.random() < 0.8:
        tokens[chance.choice(values)] = chance.choice(_JSON_VALUES)
    elif tokens:
        tokens[chance.randrange(len(tokens))] = chance.choice([*_MARKS, *_PIECES])
    return b" ".join(tokens)


def variants(each: RestInput | GrpcInput, number: int, count: int) -> Iterator[RestInput | GrpcInput]:
    """Yields an input and `count - 1` mutations of it, the same for the same number."""
    yield each
    chance = random.Random(number)
    for _ in range(count - 1):
        if isinstance(each, GrpcInput):
            if each.method.endswith("HandleReloadConfigRequest"):  # Mutated it might be carried out.
                return
            yield each._replace(body=mutate(each.body, chance))
        elif chance.random() < 0.2:
            path = mutate(each.path[4:].encode(), chance)
            yield each._replace(path="/v1/" + quote(path, safe="/%.:?#;=&@+"))
        elif chance.random() < 0.6 and not each.headers:
            yield each._replace(body=mutate_json(each.body, chance))
        else:
            yield each._replace(body=mutate(each.body, chance))


@st.composite
def grpc_inputs(draw: Any) -> GrpcInput:
    """A message, or seldom any bytes."""
    method, message = draw(messages())
    if draw(_RARELY) and draw(_RARELY) and not method.endswith("HandleReloadConfigRequest"):
        return GrpcInput(method, draw(st.binary(max_size=200)))
    return GrpcInput(method, message.SerializeToString())


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([{"b64": "aGk="}, {"b64": "a"}, {"b64": 1}, 0, 1.5, [1.0, 2.0]])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "a", "b", "id", "b64"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_KEYS = st.sampled_from(["instances", "inputs", "examples", "context", "signature_name", "x"])
_BODIES = (
    st.builds(lambda key, value, name: {key: value, "signature_name": name}, _KEYS, _VALUES, SIGNATURES)
    | st.dictionaries(_KEYS, _VALUES, max_size=3)
    | _VALUES
).map(lambda value: json.dumps(value).encode())
_NESTED = st.builds(
    lambda part, times: part * times, st.sampled_from([b"[", b'{"a":', b'{"x":[', b"[1,"]), st.integers(1, 5000)
)


@st.composite
def _right_bodies(draw: Any) -> bytes:
    """A body that names a signature of `kinds` and its inputs, most values of their types."""
    name = draw(st.sampled_from(sorted(INPUTS)))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        values = {}
        for alias, (dtype, width) in INPUTS[name].items():
            right = {"string": "a", "bool": True, "float32": 1.5, "float64": 0.1, "float16": 1}.get(dtype, 7)
            value = draw(_LEAVES) if draw(_RARELY) else right
            values[alias] = [value] * width if width else value
        rows.append(values)
    columns = {alias: [row[alias] for row in rows] for alias in INPUTS[name]}
    form = {"inputs": columns} if draw(st.booleans()) else {"instances": rows}
    return json.dumps({"signature_name": name, **form}).encode()


@st.composite
def _paths(draw: Any) -> str:
    """A path of the interface, mostly of a model that is there, or any path."""
    if draw(_RARELY) and draw(_RARELY):
        return "/" + quote(draw(st.text(max_size=30)), safe="/%.:?")
    name = quote(draw(NAMES), safe=draw(st.sampled_from(["", "/"]))) if draw(_RARELY) else "kinds"
    path = "/v1/models/" + name
    if draw(_RARELY):
        part = draw(st.sampled_from(["/versions/", "/labels/"]))
        path += part + quote(str(draw(VERSIONS)) if part == "/versions/" else draw(NAMES), safe="")
    return path + draw(st.sampled_from([":predict"] * 12 + [":classify", ":regress", "", "/metadata", "/..", "?a"]))


@st.composite
def rest_inputs(draw: Any) -> RestInput:
    """A request: a body that is right, nearly right, deep, packed, or any bytes."""
    method = draw(st.sampled_from(["GET", "PUT", "HEAD", "OPTIONS", "DELETE"])) if draw(_RARELY) else "POST"
    body = draw(_right_bodies() | _right_bodies() | _right_bodies() | _BODIES | st.binary(max_size=100) | _NESTED)
    headers = []
    if draw(_RARELY) and draw(_RARELY):
        headers.append(("Content-Encoding", "gzip"))
        body = gzip.compress(body, mtime=0)
    return RestInput(method, draw(_paths()), tuple(headers), body)


def fuzz_inputs() -> st.SearchStrategy[RestInput | GrpcInput]:
    """Returns the strategy of all inputs."""
    return rest_inputs() | grpc_inputs()


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
