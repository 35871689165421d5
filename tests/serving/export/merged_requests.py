"""Requests merged as TensorFlow Serving's batcher merges them (tensorflow_serving/batching/batching_util.cc)."""

from __future__ import annotations

import numpy as np


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
