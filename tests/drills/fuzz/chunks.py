"""A chunk of a fuzz drill: what Hypothesis draws, and mutations of it, sent one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

#: Of each input that Hypothesis draws: itself, and mutations of it.
VARIANTS = 10


class Chunk(NamedTuple):
    """What came of a chunk.

    Attributes:
      sent: how many inputs were sent.
      fault: what the first that found something found, after shrinking; '' where nothing was found.
      ended: how often inputs ended in each way.
    """

    sent: int
    fault: str
    ended: dict[str, int]


def fuzz_chunk(
    number: int,
    count: int,
    inputs: st.SearchStrategy,
    variants: Callable[[Any, int, int], Iterable[Any]],
    send: Callable[[Any], str],
    check: Callable[[], None] = lambda: None,
) -> Chunk:
    """Sends the inputs of a chunk.

    Args:
      number: of the chunk, the seed of what is drawn.
      count: inputs, about.
      inputs: what is drawn.
      variants: makes of an input, a seed and a number so many inputs, itself among them.
      send: sends one, and returns how it ended; AssertionError for what must not be.
      check: looks at the whole when all were sent; AssertionError as `send`.
    """
    ended: Counter[str] = Counter()
    sent, fault = 0, ""

    @seed(number)
    @settings(
        max_examples=max(1, count // VARIANTS),
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs, st.integers(0, 2**32))
    def send_all(drawn: Any, mutations: int) -> None:
        nonlocal sent
        for each in variants(drawn, mutations, VARIANTS):
            sent += 1
            try:
                ended[send(each)] += 1
            except AssertionError as error:
                raise AssertionError(f"{error}\n{each}") from None

    try:
        send_all()
        check()
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        fault = f"{type(error).__name__}: {error}\n{notes}"[:20_000]
    return Chunk(sent, fault, dict(ended))
