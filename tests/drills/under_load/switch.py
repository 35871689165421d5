"""Promotions and rollbacks under load: `python -m tests.drills.under_load.switch --moves 10 [--export FOLDER]`.

A server follows the label `stable` of a serving root with two releases of two toy models, whose answers say by their
values which version computed them. Callers ask without end: the first model as the label has it, then the second by
the version that answered, as who goes through a cascade holds on to its release. The label moves there and back beside
them. No call may fail, and each answer must be that of the version it names. With an export its ranker belongs to the
releases too, is loaded anew at every move, and its calls are those that are timed.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from benchmarks.serving.servers import clickmill_serve
from serving.release.labels import promote, rollback
from serving.release.manifest import ReleasedModel
from serving.release.publish_release import publish_release
from tests.drills.under_load.calls import Call, Caller, percentile
from tests.drills.under_load.models import save_version
from tests.serving.server.serving_case import floats, predict_request

FIRST, SECOND, RANKER = "first", "second", "ranker"
VERSIONS = (1, 2)
CALLERS = 3
CALL_S = 10.0
#: How many times its steady p99 a switch may cost, on a machine that does nothing else.
SLOWER = 2.0


def make_root(root: Path, export: Path | None = None) -> list[str]:
    """Writes a serving root of two releases, `stable` naming the first; returns their ids."""
    ids = []
    for version in VERSIONS:
        for name in (FIRST, SECOND):
            save_version(root / name / str(version), version)
        if export is not None:
            shutil.copytree(export, root / RANKER / str(version))
        names = (FIRST, SECOND, *([RANKER] if export is not None else ()))
        models = [ReleasedModel(name=name, stage="fine", version=version, path=f"{name}/{version}") for name in names]
        ids.append(publish_release(str(root), models, pipeline="drill", allowed_by="the drill").id)
    promote(str(root), ids[0], "stable", by="drill")
    return ids


class Callers:
    """Threads that ask a server without end.

    Args:
      address: `host:port`.
      ranker: a request to time; None times those of the first toy model.

    Attributes:
      calls: all that have ended, in the order of their ends.
    """

    def __init__(self, address: str, ranker: PredictRequest | None):
        self.calls: list[Call] = []
        self._address, self._ranker = address, ranker
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._go) for _ in range(CALLERS)]
        for each in self._threads:
            each.start()

    def end(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()

    def _go(self) -> None:
        caller = Caller(self._address, CALL_S)
        while not self._stop.is_set():
            first = caller.call(predict_request(FIRST, x=floats(2.0)))
            self.calls.append(first)
            if first.answer is not None:
                version = first.answer.model_spec.version.value
                self.calls.append(caller.call(predict_request(SECOND, version=version, x=floats(2.0))))
            if self._ranker is not None:
                self.calls.append(caller.call(self._ranker))
        caller.close()


def mixed(call: Call) -> bool:
    """Whether an answer is not that of the version which it names, or which was asked for."""
    if call.answer is None or call.request.model_spec.name == RANKER:
        return False
    version = call.answer.model_spec.version.value
    asked = call.request.model_spec.version.value
    return tf.make_ndarray(call.answer.outputs["y"]).tolist() != [1.0 + version] or asked not in (0, version)


def move(root: str, ids: list[str], number: int, address: str) -> float:
    """Moves the label, there by promoting and back by rolling back; returns the seconds until it is answered."""
    begun, to = time.monotonic(), VERSIONS[1 - number % 2]
    if number % 2:
        rollback(root, "stable", by="drill")
    else:
        promote(root, ids[1], "stable", by="drill")
    caller = Caller(address, CALL_S)
    with contextlib.closing(caller):
        while time.monotonic() - begun < 120:
            found = caller.call(predict_request(FIRST, x=floats(2.0)))
            if found.answer is not None and found.answer.model_spec.version.value == to:
                return time.monotonic() - begun
            time.sleep(0.02)
    raise AssertionError(f"release {to} was not served within two minutes")


def switch(moves: int, steady_s: float, export: Path | None = None) -> dict[str, Any]:
    """Serves two releases and switches between them; returns what `switch_releases` does."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "serving_models"
        ids = make_root(root, export)
        request = None if export is None else _ranker_request(export)
        with clickmill_serve("--root", root, "--poll", 0.2) as addresses:
            return switch_releases(str(root), ids, addresses.grpc, moves, steady_s, request)


def switch_releases(
    root: str, ids: list[str], address: str, moves: int, steady_s: float, ranker: PredictRequest | None = None
) -> dict[str, Any]:
    """Asks a server that follows a root of `make_root`, and moves the label; returns what was seen.

    Args:
      root: the serving root.
      ids: of its two releases.
      address: `host:port`.
      moves: of the label.
      steady_s: seconds before the first.
      ranker: a request of the export that the releases hold, if they do.
    """
    callers = Callers(address, ranker)
    try:
        time.sleep(steady_s)
        begun = time.monotonic()
        took = [move(root, ids, number, address) for number in range(moves)]
        ended = time.monotonic()
    finally:
        callers.end()
    timed = FIRST if ranker is None else RANKER
    own = [call for call in callers.calls if call.request.model_spec.name == timed]
    answers = [call.answer for call in callers.calls if call.answer is not None]
    return {
        "codes": dict(Counter(call.code for call in callers.calls)),
        "mixed": sum(map(mixed, callers.calls)),
        "versions": dict(Counter(answer.model_spec.version.value for answer in answers)),
        "moves_s": took,
        "steady_p99_ms": percentile([call for call in own if call.ended < begun], 0.99),
        "switching_p99_ms": percentile([call for call in own if begun <= call.ended <= ended], 0.99),
    }


def _ranker_request(export: Path) -> PredictRequest:
    from benchmarks.serving.slates import warmup_request

    request = warmup_request(export)
    request.model_spec.name = RANKER
    return request


def faults(found: dict[str, Any]) -> list[str]:
    """What must not be, whatever the machine."""
    failed = {code: count for code, count in found["codes"].items() if code != "OK"}
    told = [f"calls failed: {failed}"] if failed else []
    told += [f"{found['mixed']} answers mix two releases"] if found["mixed"] else []
    return told + [f"no answer of release {each}" for each in VERSIONS if not found["versions"].get(each)]


def main(argv: list[str] | None = None) -> int:
    """Runs the drill; returns 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--steady", type=float, default=20.0, help="seconds before the first move")
    parser.add_argument("--export", type=Path, help="a pushed version of a ranker, which is served and timed too")
    options = parser.parse_args(argv)
    found = switch(options.moves, options.steady, options.export)
    slower = found["switching_p99_ms"] / found["steady_p99_ms"]
    print(
        f"{sum(found['codes'].values()):,} calls, {options.moves} moves, {max(found['moves_s']):.1f} s each at most: "
        f"{found['codes']}, {found['mixed']} mixed, answers by version {found['versions']}\np99 steady "
        f"{found['steady_p99_ms']:.1f} ms, while switching {found['switching_p99_ms']:.1f} ms: {slower:.2f} times"
    )
    told = faults(found) + ([f"switching makes calls {slower:.2f} times as slow"] if slower > SLOWER else [])
    print(*(f"FAULT: {each}" for each in told), sep="\n")
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())
