"""Serves an export for a trial: what the trainer computed is what its callers get, and in time.

The embedded server loads the export as it would load a pushed version, replays its warm-up requests, and is asked over
gRPC and REST. Nothing is pushed for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from tempfile import TemporaryDirectory
from typing import NamedTuple

from evaluation.results import GateResult
from evaluation.serving_check import LoadFigures, ServingCheck, check_of
from features import storage
from features.errors import InputError, RunError
from serving.validation.comparison import SAME_GRAPH, Comparisons
from serving.validation.config import ServingSection
from serving.validation.load import measure_load
from serving.validation.trained_answers import ANSWERS_FILE, read_answers
from serving.validation.wires import CallFailed, GrpcClient, predict_body, predict_path, rest_predict

#: How the server knows the candidate, which has neither name nor version yet.
CANDIDATE = "candidate"

_TRAINED, _GRPC, _REST = "trainer = export", "export = gRPC", "gRPC = REST"


#: Values of an answer: one with more is asked for over REST only where the signature has not been asked, as by its
#: smallest warm-up request. A ranker's attention over all rows is a million, which take seconds as JSON.
_REST_VALUES = 100_000


class _Warmup(NamedTuple):
    """A request of the warm-up file."""

    signature: str
    tensors: dict


def check_export(
    export: storage.AnyPath,
    section: ServingSection,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> ServingCheck:
    """Serves an export and says whether it may be pushed.

    Args:
      export: a SavedModel of Clickmill, exported with warm-up rows.
      section: rows, load and budget.
      alone: holds up what else works on the machine, while the seconds of calls are measured.

    Returns:
      What was found; blessed if every gate passed. An export that cannot be opened or served is not blessed, and the
      gate says why: nothing is raised for it.
    """
    with storage.local_copy(export) as local:
        loads, server, seconds = _start(local)
        if server is None:
            return check_of([loads])
        try:
            return _check_served(local, server, seconds, section, loads, alone)
        finally:
            server.stop(0.0)


def _start(local: str):
    """The gate, and the server and its seconds where the export can be served."""
    begun = time.perf_counter()
    try:
        server = _serve(local, warmup=True)
    except RunError as error:
        return _why_not(local, error), None, None
    return _gate("loads", True, "The server loads it and replays its warm-up."), server, time.perf_counter() - begun


def _why_not(local: str, error: RunError) -> GateResult:
    """Whether it is the warm-up that failed, or the loading itself."""
    try:
        _serve(local, warmup=False).stop(0.0)
    except RunError:
        return _gate("loads", False, f"The server cannot load it: {error}")
    return _gate("warm_up", False, f"It loads, and a request of its warm-up file fails: {error}")


def _serve(local: str, warmup: bool):
    """A server of the one export on free ports of this machine's loopback."""
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer

    with _versions_of(local) as base:
        models = {CANDIDATE: base}
        # It looks once, and tries once: what does not load now will not load later either.
        config = ServeConfig(models=models, port=0, rest_port=0, poll_s=0, max_load_retries=0, warmup=warmup)
        return ModelServer(config).start()


@contextmanager
def _versions_of(local: str) -> Iterator[str]:
    """A folder of versions that holds the export as version 1."""
    with TemporaryDirectory(prefix="clickmill-") as base:
        os.symlink(os.path.abspath(local), os.path.join(base, "1"), target_is_directory=True)
        yield base


def _check_served(
    local: str, server, seconds: float, section: ServingSection, loads: GateResult, alone
) -> ServingCheck:
    from serving.saved.ranker import SavedRanker
    from serving.validation.trial_requests import trial_of

    try:
        saved, warmup, answers = SavedRanker(local), list(_warmup_requests(local)), read_answers(local)
    except InputError as error:
        return check_of([loads, _gate("opens", False, f"The server loads it, and Clickmill cannot open it: {error}")])
    found = {"signatures": saved.signatures, "warmup_records": len(warmup), "ready_seconds": seconds}
    gates = [loads, _signatures_gate(saved.signatures, warmup)]
    if answers is None or not len(answers):
        said = f"It has no {ANSWERS_FILE}, the trained model's own answers: export it with warm-up rows."
        return check_of([*gates, _gate("rows", False, said)], **found)
    trial, comparisons = trial_of(saved, answers.slice(0, section.rows)), Comparisons()
    found["rows"] = min(len(answers), section.rows)
    client = GrpcClient(server.grpc_port, CANDIDATE)
    try:
        _compare(saved, trial, warmup, client, server.rest_port, comparisons)
        with alone():
            load = _load(trial, server.grpc_port, section)
    except CallFailed as error:
        failed = _gate("answers", False, f"A call that it should answer fails: {error}")
        return check_of([*gates, failed], comparisons=comparisons.all(), **found)
    finally:
        client.close()
    gates += [*_equality_gates(comparisons), *_load_gates(load, section)]
    return check_of(gates, comparisons=comparisons.all(), measured=load, **found)


def _warmup_requests(local: str) -> Iterator[_Warmup]:
    """The requests of the warm-up file."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from serving.export.warmup import WARMUP_FILE

    path = storage.join(local, WARMUP_FILE)
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator() if storage.is_file(path) else ():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        tensors = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        yield _Warmup(request.model_spec.signature_name, tensors)


def _compare(saved, trial, warmup: list[_Warmup], client: GrpcClient, rest_port: int, found: Comparisons) -> None:
    """Asks the export, gRPC and REST the same: real rows, and the warm-up requests of every signature."""
    from serving.saved.signature_specs import SERVING_DEFAULT

    real = list(trial.requests())
    for rows, tensors in real:
        here = saved.run(SERVING_DEFAULT, tensors)
        found.add(_TRAINED, SERVING_DEFAULT, trial.expected(rows), trial.comparable(rows, here), trial.tolerance)
    asked: set[str] = set()
    for signature, tensors in [*((SERVING_DEFAULT, tensors) for _, tensors in real), *warmup]:
        here, remote = saved.run(signature, tensors), client.predict(signature, tensors)
        found.add(_GRPC, signature, here, remote)
        if sum(values.size for values in here.values()) > _REST_VALUES and signature in asked:
            continue
        asked.add(signature)
        rest = rest_predict(rest_port, predict_path(CANDIDATE), predict_body(signature, tensors))
        found.add(_REST, signature, remote, rest)


def _load(trial, port: int, section: ServingSection) -> LoadFigures:
    requests = trial.load(section.candidates)
    return measure_load(port, CANDIDATE, trial.signature, requests, section, section.candidates)


def _signatures_gate(signatures: tuple[str, ...], warmup: list[_Warmup]) -> GateResult:
    missing = sorted(set(signatures) - {request.signature for request in warmup})
    if missing:
        said = (
            f"No warm-up request asks {', '.join(missing)}: the first caller would wait, and nothing tries them here."
        )
        return _gate("signatures", False, said, len(missing), maximum=0)
    return _gate("signatures", True, f"Its warm-up asks all {len(signatures)} signatures.", 0, maximum=0)


def _equality_gates(comparisons: Comparisons) -> list[GateResult]:
    """One gate for each two places that must answer alike."""
    gates = []
    names = {_TRAINED: "trainer_equals_export", _GRPC: "export_equals_grpc", _REST: "grpc_equals_rest"}
    for between, name in names.items():
        compared = [each for each in comparisons.all() if each.between == between]
        largest = max((each.largest for each in compared if each.largest is not None), default=None)
        tolerance = max((each.tolerance for each in compared), default=SAME_GRAPH)
        wrong = [each for each in compared if not each.equal]
        values = sum(each.values for each in compared)
        said = f"{values:,} values of {len({each.signature for each in compared})} signatures are equal."
        if wrong:
            worst = max(wrong, key=lambda each: each.largest or 0.0)
            far = "values that are none, or of another form" if worst.largest is None else f"up to {worst.largest:.3g}"
            places = ", ".join(dict.fromkeys(f"`{each.signature}` → `{each.output}`" for each in wrong))
            said = f"{between} does not hold for {places}: off by {far}."
        gates.append(_gate(name, bool(compared) and not wrong, said, largest, maximum=tolerance))
    return gates


def _load_gates(load: LoadFigures, section: ServingSection) -> list[GateResult]:
    failed = sum(load.errors.values())
    told = ", ".join(f"{count} {status}" for status, count in sorted(load.errors.items())) or "none failed"
    who = f"{load.calls:,} calls by {load.concurrency} clients"
    p99 = "no call was answered" if load.p99_ms is None else f"p99 is {load.p99_ms:.1f} ms, p50 {load.p50_ms:.1f} ms"
    in_time = load.p99_ms is not None and load.p99_ms <= section.p99_ms
    return [
        _gate("load_errors", not failed, f"{who} of `{load.signature}`: {told}.", failed, maximum=0),
        _gate("p99_ms", in_time, f"{who} of `{load.signature}`: {p99}.", load.p99_ms, maximum=section.p99_ms),
    ]


def _gate(name: str, passed: bool, reason: str, value: float | None = None, maximum: float | None = None) -> GateResult:
    return GateResult(name=name, value=value, maximum=maximum, passed=passed, reason=reason)
