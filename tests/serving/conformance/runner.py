"""Runs conformance cases against a server by its address, and says what is otherwise.

    python -m tests.serving.conformance.runner                                  # the embedded server, and a real one
    python -m tests.serving.conformance.runner --only rest-predict              # ids that begin so
    python -m tests.serving.conformance.runner --address 127.0.0.1:8500,127.0.0.1:8501 --server plain

The embedded server is started for the cases. So is the one that `TF_SERVING_BINARY` names, or a
`tensorflow_model_server` on the PATH, with the same models. `--address` runs the cases of one file's `server` that
change nothing, against a server that already serves its models (`servers.py`).
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from tests.serving.conformance.case_files import Case, body_of, expected_of, read_cases
from tests.serving.conformance.messages import build_request, differences_of_answer
from tests.serving.conformance.servers import change_files, real_binary, start

TIMEOUT_S = 60.0


class Target(NamedTuple):
    """A server that cases run against.

    Attributes:
      kind: `embedded` or `real`.
      grpc_address: host and port of gRPC.
      rest_address: host and port of REST.
      base: folder of its models.
    """

    kind: str
    grpc_address: str
    rest_address: str
    base: str


def run_case(case: Case, target: Target) -> list[str]:
    """Runs a case; returns what is otherwise than expected, nothing if all holds."""
    for number, step in enumerate(case.steps, 1):
        until = time.monotonic() + step.get("within_s", 0)
        while True:
            found = _run_step(step, target)
            if not found or time.monotonic() > until:
                break
            time.sleep(0.1)
        if found:
            return [f"step {number}: {each}" if len(case.steps) > 1 else each for each in found]
    return []


def _run_step(step: Mapping[str, Any], target: Target) -> list[str]:
    if "files" in step:
        change_files(Path(target.base), step["files"])
        return []
    expected = expected_of(step, target.kind)
    if expected.get("skip"):
        return []
    if "parallel" in step:
        return _run_parallel(step, expected, target)
    return _run_once(step, expected, target)


def _run_parallel(step: Mapping[str, Any], expected: Mapping[str, Any], target: Target) -> list[str]:
    """Makes a request many times at once: `some` end otherwise, at least one, and the others as expected."""
    with ThreadPoolExecutor(step["parallel"]) as pool:
        ran = [pool.submit(_run_once, step, expected, target) for _ in range(step["parallel"])]
        found = [future.result() for future in ran]
        some = expected.get("some")
        if some is None:
            return [each for one in found for each in one][:1]
        unlike = [each for each in found if each]
        pattern = f"received {some['code']}: .*{some.get('pattern') or re.escape(some['error'])}"
        if not unlike:
            return [f"of {len(found)} calls none ended by {some}"]
        return [each[0] for each in unlike if not re.search(pattern, each[0], re.DOTALL)][:1]


def _run_once(step: Mapping[str, Any], expected: Mapping[str, Any], target: Target) -> list[str]:
    return _run_rest(step, expected, target) if "rest" in step else _run_grpc(step, expected, target)


def _run_rest(step: Mapping[str, Any], expected: Mapping[str, Any], target: Target) -> list[str]:
    verb, path = step["rest"].split(" ", 1)
    connection = http.client.HTTPConnection(target.rest_address, timeout=TIMEOUT_S)
    try:
        # Without http.client's own checks: paths that it would refuse are cases too.
        connection._validate_path = lambda url: None
        connection.request(verb, path, body_of(step) or None, dict(step.get("headers", {})))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    found = []
    if response.status != expected["code"]:
        found.append(f"code: expected {expected['code']}, received {response.status}: {body[:500]!r}")
    text = body.decode("utf-8", "surrogateescape")
    if "text" in expected and text != expected["text"]:
        found.append(f"expected the body {expected['text']!r}, received {text!r}")
    if "json" in expected and _read(text) != expected["json"]:
        found.append(f"expected {expected['json']!r}, received {_read(text)!r}")
    if "error" in expected and _read(text) != {"error": expected["error"]}:
        found.append(f"expected the error {expected['error']!r}, received {text[:600]!r}")
    if "pattern" in expected and not re.search(expected["pattern"], text, re.DOTALL):
        found.append(f"expected /{expected['pattern']}/, received {text[:600]!r}")
    for name, value in expected.get("headers_out", {}).items():
        if response.headers.get(name) != value:
            found.append(f"header {name}: expected {value!r}, received {response.headers.get(name)!r}")
    return found


def _read(text: str) -> Any:
    """Returns a body as a value in which 1 and 1.0, and NaN and itself, are what they are."""
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return f"not JSON: {text[:500]}"


def _run_grpc(step: Mapping[str, Any], expected: Mapping[str, Any], target: Target) -> list[str]:
    stub, message = build_request(step, {"BASE": target.base})
    with grpc.insecure_channel(target.grpc_address) as channel:
        call = getattr(stub(channel), step["grpc"])
        try:
            answer = call(message, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return _differences_of_error(error, expected)
    if expected["code"] != "OK":
        return [f"code: expected {expected['code']}, received OK: {str(answer)[:500]}"]
    return differences_of_answer(answer, expected)


def _differences_of_error(error: Any, expected: Mapping[str, Any]) -> list[str]:
    code, message = error.code().name, error.details().replace("\r", "")
    if code != expected["code"]:
        return [f"code: expected {expected['code']}, received {code}: {message}"]
    if "error" in expected and message != expected["error"]:
        return [f"expected the message {expected['error']!r}, received {message!r}"]
    if "pattern" in expected and not re.search(expected["pattern"], message, re.DOTALL):
        return [f"expected /{expected['pattern']}/, received {message!r}"]
    return []


def run_all(cases: Iterable[Case], kind: str, models: Path) -> dict[str, list[str]]:
    """Runs cases against servers of one kind; returns what is otherwise by the case's id.

    Args:
      cases: the cases.
      kind: `embedded` or `real`.
      models: folder with the toy models, as `save_toy_models` leaves it.
    """
    found: dict[str, list[str]] = {}
    shared: dict[str, list[Case]] = {}
    for case in cases:
        shared.setdefault(case.name if case.own_server else case.server, []).append(case)
    for group in shared.values():
        try:
            with tempfile.TemporaryDirectory() as work, start(kind, group[0].server, models, Path(work)) as target:
                for case in group:
                    found[case.name] = run_case(case, Target(kind, *target))
        except RuntimeError as error:
            found |= {case.name: [str(error)] for case in group}
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line asks for; returns 1 if a case does not hold."""
    from tests.serving.server.toy_models import save_toy_models

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="run the cases whose id begins so")
    parser.add_argument("--address", help="gRPC's and REST's host:port, separated by a comma")
    parser.add_argument("--server", default="plain", help="with --address: which cases that server can answer")
    parser.add_argument("--models", type=Path, help="folder of the toy models, made there if it is not there")
    parser.add_argument("--kind", choices=["embedded", "real"], help="run only against that")
    options = parser.parse_args(argv)
    cases = [case for case in read_cases() if case.name.startswith(options.only)]
    results: dict[str, dict[str, list[str]]] = {}
    if options.address:
        target = Target(options.kind or "real", *options.address.split(","), "")
        chosen = [case for case in cases if case.server == options.server and not case.own_server]
        results[options.address] = {case.name: run_case(case, target) for case in chosen}
    else:
        kinds = [options.kind] if options.kind else ["embedded", *(["real"] if real_binary() else [])]
        with tempfile.TemporaryDirectory() as work:
            models = options.models or Path(work) / "models"
            if not models.exists():
                save_toy_models(models)
            for kind in kinds:
                results[kind] = run_all(cases, kind, models)
    return _report(results)


def _report(results: Mapping[str, Mapping[str, list[str]]]) -> int:
    failed = 0
    for target, found in results.items():
        for name, differences in found.items():
            if differences:
                failed += 1
                print(f"{target} {name}: " + "; ".join(differences))
        print(f"{target}: {sum(not each for each in found.values())} of {len(found)} cases hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
