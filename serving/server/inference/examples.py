"""What Classify, Regress and MultiInference share: an `Input` of examples, and the signatures that take it.

See servables/tensorflow/{util,classifier,regressor}.cc of tensorflow/serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serving.server.status import invalid_argument

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis.classification_pb2 import ClassificationResult
    from tensorflow_serving.apis.input_pb2 import Input
    from tensorflow_serving.apis.regression_pb2 import RegressionResult

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


class ExampleCall(NamedTuple):
    """The names of the tensors that a signature of examples takes and gives."""

    feed: str
    fetches: tuple[str, ...]


def serialized_examples(examples: Input) -> np.ndarray:
    """Returns the examples of an input, serialized, `[examples]`; those with a context begin with its bytes.

    Raises:
      ServingError: INVALID_ARGUMENT if there are none.
    """
    kind = examples.WhichOneof("kind")
    held = getattr(examples, kind) if kind else None
    if held is None or not held.examples:
        raise invalid_argument("Input is empty.")
    context = held.context.SerializeToString() if kind == "example_list_with_context" else b""
    found = np.empty(len(held.examples), object)
    found[:] = [context + each.SerializeToString() for each in held.examples]
    return found


def classify_call(signature: SignatureDef) -> ExampleCall:
    """Returns what a signature takes and gives as a classifier.

    Raises:
      ServingError: INVALID_ARGUMENT if it is none.
    """
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature}")
    fetches = [signature.outputs[alias].name for alias in (_CLASSES, _SCORES) if alias in signature.outputs]
    if not fetches:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {signature}"
        )
    return ExampleCall(signature.inputs[_INPUTS].name, tuple(fetches))


def regress_call(signature: SignatureDef) -> ExampleCall:
    """Returns what a signature takes and gives as a regressor.

    Raises:
      ServingError: INVALID_ARGUMENT if it is none.
    """
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature}")
    if _OUTPUTS not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
    return ExampleCall(signature.inputs[_INPUTS].name, (signature.outputs[_OUTPUTS].name,))


def fill_classifications(
    signature: SignatureDef, tensors: Mapping[str, np.ndarray], count: int, result: ClassificationResult
) -> None:
    """Writes a classifier's outputs as a result.

    Args:
      signature: whose outputs they are.
      tensors: fetched tensors by their names.
      count: of examples.
      result: what they are written to.

    Raises:
      ServingError: INVALID_ARGUMENT if they are not `[examples, classes]`, of strings and of floats.
    """
    classes = _output(signature, tensors, _CLASSES)
    scores = _output(signature, tensors, _SCORES)
    for what, values, wanted in (("classes", classes, "DT_STRING"), ("scores", scores, "DT_FLOAT")):
        if values is None:
            continue
        if values.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(values.shape)}")
        if _type_name(values) != wanted:
            raise invalid_argument(f"Expected {what} Tensor of {wanted}. Got: {_type_name(values)}")
        if len(values) != count:
            raise invalid_argument(f"Expected {what} output batch size of {count}. Got: {len(values)}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    labels = None if classes is None else classes.tolist()
    values = None if scores is None else scores.tolist()
    for row in range(count):
        found = result.classifications.add().classes
        for column in range(len((labels or values or [[]])[row])):
            one = found.add()
            if labels is not None:
                one.label = _text(labels[row][column])
            if values is not None:
                one.score = values[row][column]


def fill_regressions(
    signature: SignatureDef, tensors: Mapping[str, np.ndarray], count: int, result: RegressionResult
) -> None:
    """Writes a regressor's output as a result.

    Args:
      signature: whose output it is.
      tensors: fetched tensors by their names.
      count: of examples.
      result: what it is written to.

    Raises:
      ServingError: INVALID_ARGUMENT if it is not `[examples]` or `[examples, 1]` of floats.
    """
    values = _output(signature, tensors, _OUTPUTS)
    if values is None:
        raise invalid_argument(f"Could not find output tensor '{signature.outputs[_OUTPUTS].name}'")
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values.shape)}"
        )
    if len(values) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if _type_name(values) != "DT_FLOAT":
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(values)}")
    for value in values.ravel().tolist():
        result.regressions.add(value=value)


def _output(signature: SignatureDef, tensors: Mapping[str, np.ndarray], alias: str) -> np.ndarray | None:
    return tensors.get(signature.outputs[alias].name) if alias in signature.outputs else None


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(str(size) for size in shape)}]"


def _type_name(values: np.ndarray) -> str:
    import tensorflow as tf
    from tensorflow.core.framework.types_pb2 import DataType

    return DataType.Name(
        tf.string.as_datatype_enum if values.dtype == object else tf.as_dtype(values.dtype).as_datatype_enum
    )


def _text(label: bytes) -> str:
    """A class label, whose field is text: what is no UTF-8 cannot stand in it."""
    return label.decode("utf-8", "replace")
