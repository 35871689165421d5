"""The forms in which real requests go over the wire, and how an answer is held against what the export computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.serving.export.merged_requests import merged, padded

Tensors = Mapping[str, np.ndarray]
#: The sizes behind the first dimension that a signature's inputs have; None: it is left open.
Shapes = Mapping[str, tuple[int | None, ...]]

#: Requests that a caller merges itself.
_MERGED = 7


class Call(NamedTuple):
    """A call, and whose answers it brings.

    Attributes:
      tensors: its inputs.
      parts: of each request in it, its number, its first row and its rows.
    """

    tensors: Tensors
    parts: tuple[tuple[int, int, int], ...]


def alone(requests: Sequence[Tensors], shapes: Shapes) -> Iterator[Call]:
    """Each request as it is."""
    for number, request in enumerate(requests):
        yield Call(request, ((number, 0, _rows(request)),))


def widened(requests: Sequence[Tensors], shapes: Shapes) -> Iterator[Call]:
    """Each request with every list longer by one to three places, filled up as a server that merges fills up."""
    for number, request in enumerate(requests):
        wider = {name: tuple(size + 1 + number % 3 for size in each.shape[1:]) for name, each in request.items()}
        yield Call(_filled(request, shapes, wider), ((number, 0, _rows(request)),))


def alike(requests: Sequence[Tensors], shapes: Shapes) -> Iterator[Call]:
    """Each request filled up to the widest of all, as a server asks that merges and does not fill up itself."""
    widest = {name: tuple(np.max([each[name].shape[1:] for each in requests], axis=0)) for name in requests[0]}
    for number, request in enumerate(requests):
        yield Call(_filled(request, shapes, widest), ((number, 0, _rows(request)),))


def together(requests: Sequence[Tensors], shapes: Shapes) -> Iterator[Call]:
    """Several requests of different widths in one call, merged by the caller."""
    for start in range(0, len(requests), _MERGED):
        several = requests[start : start + _MERGED]
        ends = np.cumsum([_rows(request) for request in several])
        parts = [
            (start + place, int(end) - _rows(request), _rows(request))
            for place, (request, end) in enumerate(zip(several, ends, strict=True))
        ]
        yield Call(merged(list(several)), tuple(parts))


def answers_of(call: Call, answer: Mapping[str, Any], expected: Sequence[Tensors]) -> Iterator[tuple[Tensors, dict]]:
    """Yields of each request in a call what the export computes, and the answer's own part, as arrays.

    Args:
      call: that was answered.
      answer: outputs by name, as arrays or as values of JSON; a single output may stand under `''`.
      expected: by the request's number.
    """
    if list(answer) == [""]:
        answer = {next(iter(expected[call.parts[0][0]])): answer[""]}
    arrays: dict[str, np.ndarray] = {}
    for number, first, rows in call.parts:
        for name, values in expected[number].items():
            if name in answer and name not in arrays:
                arrays[name] = np.asarray(answer[name], values.dtype)
        yield expected[number], {name: _part(arrays[name], first, rows, expected[number][name]) for name in arrays}


def _part(values: np.ndarray, first: int, rows: int, like: np.ndarray) -> np.ndarray:
    if values.ndim != like.ndim:  # JSON does not say how wide nothing is; anything else is not equal
        return values
    return values[(slice(first, first + rows), *(slice(0, size) for size in like.shape[1:]))]


def _filled(request: Tensors, shapes: Shapes, wanted: Mapping[str, tuple[int, ...]]) -> Tensors:
    """A request filled up to the wanted sizes, where the signature leaves a size open."""
    found = {}
    for name, tensor in request.items():
        sizes = zip(shapes[name], tensor.shape[1:], wanted[name], strict=True)
        found[name] = padded(tensor, tuple(own if fixed else int(wide) for fixed, own, wide in sizes))
    return found


def _rows(request: Tensors) -> int:
    return len(next(iter(request.values())))
