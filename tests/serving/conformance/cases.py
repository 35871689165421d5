"""Conformance cases as data: what `*.yaml` of this folder hold, read into `Case`s.

A file is a mapping: `server`, one of `servers.py`, which a case may replace by its own, and `cases`, a list. A case has

- `id`, unique over all files, and `source`, the place in TensorFlow Serving's sources at 2.16.1 (below
  `tensorflow_serving/`, unless it says tensorflow or rapidjson) that was read for it;
- a request: `rest: VERB PATH` with `headers` and `body` (text, or any other value, which is sent as JSON; `body_hex`
  bytes; `repeat: [head, part, times, tail]` a long text), or `grpc: METHOD` with `request`, the message in its JSON
  form, into which `inputs` (tensors), `examples` and `context` (features) are written;
- what is expected: `code`, the number of HTTP or the name of gRPC; and of `error` the whole message, `pattern` a
  regular expression that is found in the message or the body, `json` the body as a value, `text` the body as it is,
  `headers_out` headers of the answer, `answer` fields of gRPC's answer in JSON form, `outputs` its tensors;
- with `parallel: N` the request is made N times at once: at least one ends as `some` says, and all others as expected;
- where targets differ, `embedded` or `real`: other expectations for that target, or `skip: true`, with `reason`;
- `steps` instead of a request: a list of requests or of `files` (below), on a server of its own; with `within_s` a
  step is tried until it holds.

Tensors are written `TYPE[SHAPE] VALUES`: `float[2] 1 2.5`, `string[1] "a b"`, `int64[] 7`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from features.config import read_yaml

FOLDER = Path(__file__).parent
REQUEST = {
    "rest",
    "headers",
    "body",
    "body_hex",
    "repeat",
    "grpc",
    "request",
    "inputs",
    "examples",
    "context",
    "files",
    "parallel",
}
EXPECTED = {"code", "error", "pattern", "json", "text", "headers_out", "answer", "outputs", "some", "skip", "reason"}
KNOWN = {"id", "server", "source", "embedded", "real", "steps", "within_s", *REQUEST, *EXPECTED}


class Case(NamedTuple):
    """One case; a case without `steps` is one step.

    Attributes:
      name: the id.
      server: the server that it needs, by its name in `servers.py`.
      source: place in TensorFlow Serving's sources.
      steps: requests with what is expected of each.
      own_server: whether it changes the server, which then is started for it alone.
    """

    name: str
    server: str
    source: str
    steps: tuple[Mapping[str, Any], ...]
    own_server: bool = False


def read_cases(folder: Path = FOLDER) -> list[Case]:
    """Returns the cases of every `*.yaml` of a folder.

    Raises:
      ValueError: a case lacks an id, a source, a request or an expectation, or has a key that means nothing.
    """
    found = [case for path in sorted(folder.glob("*.yaml")) for case in _cases_of(path)]
    names = [case.name for case in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"ids that stand twice: {sorted(twice)}")
    return found


def _cases_of(path: Path) -> Iterator[Case]:
    document = read_yaml(path)
    for given in document["cases"]:
        steps = tuple(given.get("steps", [given]))
        where = f"{path.name}: {given.get('id')}"
        for step in steps:
            _check(step, where)
        if not given.get("id") or not given.get("source"):
            raise ValueError(f"{where}: a case has an `id` and a `source`")
        yield Case(given["id"], given.get("server", document["server"]), given["source"], steps, "steps" in given)


def _check(step: Mapping[str, Any], where: str) -> None:
    unknown = set(step) - KNOWN
    if unknown:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}")
    if "files" in step:
        return
    if ("rest" in step) == ("grpc" in step):
        raise ValueError(f"{where}: either `rest` or `grpc`")
    if "code" not in step:
        raise ValueError(f"{where}: no `code` is expected")
    for target in ("embedded", "real"):
        other = step.get(target, {})
        if other and not (set(other) <= EXPECTED and other.get("reason")):
            raise ValueError(f"{where}: `{target}` says what else is expected, and the `reason`")


def expected_of(step: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Returns what a step expects of a target, `embedded` or `real`; the target's own expectations replace all."""
    own = step.get(target)
    return dict(own) if own else {key: step[key] for key in EXPECTED if key in step}


def body_of(step: Mapping[str, Any]) -> bytes:
    """Returns the body of a REST request."""
    if "body_hex" in step:
        return bytes.fromhex(step["body_hex"])
    if "repeat" in step:
        head, part, times, tail = step["repeat"]
        return (head + part * times + tail).encode()
    body = step.get("body", "")
    return (body if isinstance(body, str) else json.dumps(body)).encode()
