"""Answers from two places held against each other, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.serving_check import AnswerComparison
from serving.saved.signature_specs import RETRIEVE

#: Of one graph, run by whatever runtime, on whatever wire: float32 sums in another order.
SAME_GRAPH = 1e-6

#: Where bucket tables stand between: sums over a long history, added up in another order than the joint graph does.
THROUGH_TABLES = 1e-5


class Comparisons:
    """Collects what differs between two places over many requests."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], AnswerComparison] = {}

    def add(
        self,
        between: str,
        signature: str,
        expected: Mapping[str, np.ndarray],
        found: Mapping[str, Any],
        tolerance: float = SAME_GRAPH,
    ) -> None:
        """Compares the outputs of one request.

        Args:
          between: the two places.
          signature: that was asked.
          expected: outputs at the first place.
          found: outputs at the second, as arrays or as values of JSON; one that is missing there is not equal. A single
            output may stand under `''`.
          tolerance: absolute, and relative to the value.
        """
        if list(found) == [""] and len(expected) == 1:
            found = {next(iter(expected)): found[""]}
        ties = _near_ties(expected["score"], tolerance) if signature == RETRIEVE and "score" in expected else None
        for output, values in expected.items():
            if output not in found:
                self._note(between, signature, output, values.size, None, tolerance, False)
                continue
            given = _like(values, found[output])
            largest, equal = _difference(values, given, tolerance, ties if values.dtype.kind not in "f" else None)
            self._note(between, signature, output, values.size, largest, tolerance, equal)

    def all(self) -> tuple[AnswerComparison, ...]:
        """Returns what was found, in the order in which it was asked for."""
        return tuple(self._found.values())

    def _note(self, between, signature, output, values: int, largest: float | None, tolerance: float, equal: bool):
        key = (between, signature, output)
        before = self._found.get(key)
        if before is not None:
            values, equal = values + before.values, equal and before.equal
            known = [each for each in (largest, before.largest) if each is not None]
            largest, tolerance = max(known, default=None), max(tolerance, before.tolerance)
        self._found[key] = AnswerComparison(
            between=between,
            signature=signature,
            output=output,
            requests=1 if before is None else before.requests + 1,
            values=values,
            largest=largest,
            tolerance=tolerance,
            equal=equal,
        )


def _like(expected: np.ndarray, found: Any) -> np.ndarray | None:
    """Values as an array of the type and shape of what is expected; None where they are of another shape."""
    try:
        given = np.asarray(found, object if expected.dtype == object else expected.dtype)
    except (ValueError, TypeError, OverflowError):
        return None
    if given.size == expected.size == 0:  # JSON does not say how wide nothing is
        return given.reshape(expected.shape)
    return given if given.shape == expected.shape else None


def _difference(expected: np.ndarray, found: np.ndarray | None, tolerance: float, ties: np.ndarray | None):
    """The largest difference, None where there is no number for it, and whether all are within the tolerance."""
    if found is None:
        return None, False
    if expected.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            differences = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        differences = np.where(same, 0.0, differences)
        close = differences <= tolerance + tolerance * np.abs(expected.astype(np.float64))
        largest = float(differences.max(initial=0.0))
        return (largest if np.isfinite(largest) else None), bool((same | close).all())
    if expected.dtype == object:
        same = np.array([_text(a) == _text(b) for a, b in zip(expected.ravel(), found.ravel(), strict=True)], bool)
        same = same.reshape(expected.shape)
    else:
        same = found == expected
    return None, bool((same if ties is None or ties.shape != same.shape else same | ties).all())


def _near_ties(scores: np.ndarray, tolerance: float) -> np.ndarray:
    """Places of ranked lists `[R, K]` whose neighbours score alike, so that items may change places; and the last."""
    gaps = np.abs(np.diff(scores, axis=1)) <= 4 * tolerance
    open_end = np.ones((len(scores), 1), bool)
    return np.hstack([gaps, open_end]) | np.hstack([np.zeros_like(open_end), gaps]) if scores.shape[1] else gaps


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
