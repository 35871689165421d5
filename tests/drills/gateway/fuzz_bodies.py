"""Bodies of the gateway's fuzz drill: right ones, nearly right ones, mutations of them, and any bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.drills.fuzz.fuzz_inputs import mutate, mutate_json

#: What takes the place of a value.
_PLANTED = [
    *(None, True, 0, -1, 1, 3, 7, 1.5, 1e300, 2**53 + 1, 2**63, -(2**63), 1_700_000_000_000, "", "x", "\0", "é💥"),
    *(7, "u0000007", "latest", "18-24", [], {}, [1], ["red", "shoe"], [None], {"item_id": 3}, [[]]),
]
PATHS = ("/v1/recommend", "/v1/rank", "/v1/behaviors")
JSON = "application/json"


class Body(NamedTuple):
    """A request with a body."""

    path: str
    content_type: str
    body: bytes


_RARELY = st.integers(0, 9).map(lambda number: number == 9)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "u0000001", "\0", "é", "💥", -1, 0, 1.5, 2**53 + 1, "x" * 1001, "stable", "latest"])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
_IDS = st.integers(0, 40).map(lambda number: f"u{number:07d}") | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5)
_ITEMS = st.integers(0, 400)
_TIMES = st.integers(1_600_000_000_000, 1_900_000_000_000)
#: Features of the simulated log, with values of their types.
_CONTEXT = {
    "age_band": st.sampled_from(["18-24", "25-34", "", "?"]),
    "city": st.sampled_from(["amsterdam", "köln", "\U0001f600"]),
    "device": st.sampled_from(["ios", "android"]),
    "hour": st.integers(0, 23),
    "weekday": st.integers(0, 6),
}
_ITEM = {
    "category": st.sampled_from(["shoes", "books", ""]),
    "price": st.floats(0, 1e6) | st.integers(0, 100),
    "title": st.lists(st.sampled_from(["red", "shoe", ""]), max_size=4),
}


@st.composite
def _some(draw: Any, features: dict[str, Any]) -> dict[str, Any]:
    """Some of the features, seldom one of another kind or unknown."""
    names = draw(st.lists(st.sampled_from(sorted(features)), max_size=3, unique=True))
    found = {name: draw(features[name]) for name in names}
    if draw(_RARELY):
        found[draw(st.sampled_from([*sorted(features), "item_id", "user_id", "nope", ""]))] = draw(_VALUES)
    return found


_BEHAVIORS = st.builds(
    lambda item, time, features: {"item_id": item, "timestamp": time, **features}, _ITEMS, _TIMES, _some(_ITEM)
)


@st.composite
def right_requests(draw: Any, path: str) -> dict[str, Any]:
    """A body as it should be, or nearly."""
    if path == "/v1/behaviors":
        event = st.fixed_dictionaries({"user": _IDS, "timestamp": _TIMES, "item_id": _ITEMS})
        return {"events": draw(st.lists(event, min_size=1, max_size=4))}
    keys = {
        "user": _IDS,
        "context": _some(_CONTEXT),
        "k": st.integers(1, 20) | st.just(1000),
        "timestamp": _TIMES,
        "history": st.lists(_BEHAVIORS, max_size=5),
        "explain": st.booleans(),
        "request_id": st.text(min_size=1, max_size=10),
        "release": st.sampled_from(["latest", "stable", "../x", "nope"]),
        "experiment": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    }
    chosen = draw(st.lists(st.sampled_from([*keys, "user", "context", "k"]), max_size=4, unique=True))
    body = {name: draw(keys[name]) for name in chosen if name != "release" or draw(_RARELY)}
    if path == "/v1/rank":
        candidate = st.builds(lambda item, features: {"item_id": item, **features}, _ITEMS, _some(_ITEM))
        body["candidates"] = draw(st.lists(candidate, max_size=6))
    return body


@st.composite
def bodies(draw: Any) -> Body:
    """A request: mostly right, else of other values, nested deep, or any bytes."""
    path = draw(st.sampled_from(PATHS))
    kind = draw(st.sampled_from(["right", "right", "right", "right", "changed", "any", "deep", "bytes"]))
    if kind in ("right", "changed"):
        values = draw(right_requests(path))
        if kind == "changed":
            values[draw(st.sampled_from([*sorted(values), "k", "user", "candidates", "events", "x"]))] = draw(_VALUES)
        text = json.dumps(values).encode()
    elif kind == "any":
        text = json.dumps(draw(_VALUES)).encode()
    elif kind == "deep":
        text = draw(st.sampled_from([b"[", b'{"context":', b'{"context":{"a":['])) * draw(st.integers(1, 3000))
    else:
        text = draw(st.binary(max_size=200))
    content_type = JSON if not draw(_RARELY) else draw(st.sampled_from([JSON + "; charset=x", "text/plain", "", "*/*"]))
    return Body(path, content_type, text)


def variants(each: Body, number: int, count: int) -> Iterator[Body]:
    """Yields a request and `count - 1` mutations of its body, the same for the same number."""
    yield each
    chance = random.Random(number)
    for _ in range(count - 1):
        how = chance.random()
        if how < 0.6:
            yield each._replace(body=_with_another_value(each.body, chance))
        else:
            yield each._replace(body=(mutate_json if how < 0.8 else mutate)(each.body, chance))


def _with_another_value(body: bytes, chance: random.Random) -> bytes:
    """A JSON text with one value replaced by another, at any depth; it stays JSON, if it was."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return mutate(body, chance)
    places: list[tuple[Any, Any]] = []
    inside = [values]
    while inside:
        node = inside.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        inside += [node[key] for key in keys]
    if places:
        node, key = chance.choice(places)
        node[key] = chance.choice(_PLANTED)
    return json.dumps(values).encode()
