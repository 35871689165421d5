"""What a graph may not hold that a stock TensorFlow Serving is to run.

It runs TensorFlow's own operations on a session without XLA and without Python: a graph that needs more loads, and
fails at its first request, or does not load at all. Look-up tables as constants of the graph load, but take a copy a
signature and end at 2 GiB.
"""

from __future__ import annotations

from collections.abc import Iterator

from features import storage
from features.errors import RunError

GRAPH_FILE = "saved_model.pb"

#: Bytes of a constant; what is larger belongs into a variable or a file of the assets.
MAX_CONSTANT = 1 << 20

_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_FUSED_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_TABLES = ("InitializeTableV2", "LookupTableImportV2")
_XLA_ATTRIBUTES = ("_XlaMustCompile", "_xla_compile_id", "_XlaCluster")


class ExportError(RunError):
    """A model whose graph a server cannot run. The message names the operation and the fix."""


def check_graph(saved_model: storage.AnyPath) -> None:
    """Refuses a SavedModel whose graph a stock TensorFlow Serving does not run.

    Args:
      saved_model: its directory.

    Raises:
      ExportError: if the graph holds a Python function, an operation that is not TensorFlow's own, a function for XLA
        (`jit_compile`), a large constant, or a normalisation that is not safe from several threads.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    found = saved_model_pb2.SavedModel.FromString(storage.read_bytes(storage.join(saved_model, GRAPH_FILE)))
    for graph in (each.graph_def for each in found.meta_graphs):
        check_graph_def(graph)


def check_graph_def(graph) -> None:
    """Refuses a `GraphDef`, as `check_graph` does."""
    import tensorflow as tf

    known, functions = set(dir(tf.raw_ops)), {each.signature.name for each in graph.library.function}
    for function in graph.library.function:
        if any(function.attr[name].b for name in _XLA_ATTRIBUTES if name in function.attr):
            raise ExportError(
                f"`{_readable(function.signature.name)}` is compiled by XLA, which TensorFlow Serving is built "
                "without: remove `jit_compile` from the model's functions."
            )
    for place, nodes in _graphs(graph):
        constants = {node.name for node in nodes if node.op == "Const"}
        for node in nodes:
            said = _refusal(node, known | functions, constants)
            if said:
                raise ExportError(f"`{node.name}` in {place} {said}")


def _graphs(graph) -> Iterator[tuple[str, list]]:
    """The nodes of the graph and of its functions, each with where they are."""
    yield "the graph", list(graph.node)
    for function in graph.library.function:
        yield f"`{_readable(function.signature.name)}`", list(function.node_def)


def _refusal(node, known: set[str], constants: set[str]) -> str | None:
    if node.op in _PYTHON:
        return "calls Python (`py_function`), which no server has: write it in TensorFlow's operations."
    if node.op.startswith("Xla") or any(
        node.attr[name].b or node.attr[name].s for name in _XLA_ATTRIBUTES if name in node.attr
    ):
        return "needs XLA, which TensorFlow Serving is built without: remove `jit_compile`."
    if node.op not in known and not node.op.startswith("_"):
        return f"is the operation `{node.op}`, which is not TensorFlow's own: a stock server does not have it."
    if node.op == "Const" and node.attr["value"].ByteSize() > MAX_CONSTANT:
        return (
            f"is a constant of {node.attr['value'].ByteSize():,} bytes, at most {MAX_CONSTANT:,} are allowed: keep it "
            "in a variable, or in a file of the assets (`serving.export.table_assets`)."
        )
    if node.op in _FUSED_NORMS and ("is_training" not in node.attr or node.attr["is_training"].b):
        return (
            f"is `{node.op}` in training mode (of Keras' LayerNormalization, or of a BatchNormalization that was "
            "exported so), which crashes a server that answers two requests at a time: oneDNN's kernel is not safe "
            "there. Give the LayerNormalization an `epsilon` of 1e-5 or less; Keras then takes other operations."
        )
    if node.op in _TABLES and node.input[1].split(":")[0] in constants:
        return "fills a look-up table from constants of the graph: use `serving.export.table_assets.NumberedKeys`."
    return None


def _readable(name: str) -> str:
    """The name that a function had in Python."""
    return name.removeprefix("__inference_").removeprefix("__forward_").rstrip("0123456789").rstrip("_") or name
