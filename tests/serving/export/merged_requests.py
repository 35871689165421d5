"""Requests merged as TensorFlow Serving's batcher merges them (tensorflow_serving/batching/batching_util.cc)."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from serving.saved.saved_model import SavedModel
from serving.saved.signature_specs import MAX_REQUESTS
from tests.serving.export.warmup_file import warmup_requests


class SavedModelOfKind(SavedModel):
    """An export of whatever kind."""

    kind, signature = "model", "serving_default"

    @property
    def signatures(self):
        return self._module.signatures


def check_signatures(directory: Path) -> None:
    """All inputs and outputs share the first dimension; what a server pads with on merging is not read."""
    saved, requests = SavedModelOfKind(directory), {}
    for request, inputs in warmup_requests(directory):
        name = request.model_spec.signature_name
        assert set(inputs) == set(saved.inputs(name)), "a server takes no other inputs, and no fewer"
        requests.setdefault(name, []).append({key: values.numpy() for key, values in inputs.items()})
    assert requests.keys() == saved.signatures.keys() and "serving_default" in requests
    for name, (smallest, largest) in requests.items():
        assert all(len(values) == 1 for values in smallest.values())
        assert all(len(values) <= MAX_REQUESTS for values in largest.values())
        assert all(spec.shape.rank and spec.shape[0] is None for spec in saved.inputs(name).values())
        outputs = saved.run(name, largest)
        numbers = [values for values in outputs.values() if values.dtype == np.float32]
        assert numbers and all(np.isfinite(values).all() for values in numbers)
        assert_merging_changes_nothing(functools.partial(saved.run, name), [smallest, largest, smallest])
    # A server that merges requests dies of a tensor under two names.
    found = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    for name, signature in found.meta_graphs[0].signature_def.items():
        outputs = [output.name for output in signature.outputs.values()]
        assert len(set(outputs)) == len(outputs) or name.startswith("__saved_model")


def merged(requests: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One request of several: along the first dimension, padded behind, each tensor with its own first element."""
    return {name: _merged([request[name] for request in requests]) for name in requests[0]}


def _merged(tensors: list[np.ndarray]) -> np.ndarray:
    widest = np.max([tensor.shape for tensor in tensors], axis=0)[1:]
    return np.concatenate([padded(tensor, tuple(widest)) for tensor in tensors])


def padded(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`[n, …]` to `[n, *shape]`."""
    if tensor.shape[1:] == shape:
        return tensor
    assert tensor.size, "Got empty tensor in batch of non-empty tensors."
    full = np.full((len(tensor), *shape), tensor.flat[0], tensor.dtype)
    full[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return full


def assert_merging_changes_nothing(run, requests: list[dict[str, np.ndarray]]) -> None:
    """Runs requests apart and merged: a request's answer is its rows of the merged one, as wide as its own."""
    sizes = [{len(tensor) for tensor in request.values()} for request in requests]
    assert all(len(each) == 1 for each in sizes), "Batching Run() input tensors must have equal 0th-dimension size"
    together, first = run(merged(requests)), 0
    for request, (size,) in zip(requests, sizes, strict=True):
        for name, expected in run(request).items():
            rows = together[name][first : first + size]
            assert len(expected) == size, f"`{name}` does not have the request's first dimension"
            found = rows[tuple(slice(0, width) for width in expected.shape)]
            if expected.dtype == np.float32:
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(found, expected, err_msg=name)
        first += size
    assert all(len(values) == first for values in together.values())
