"""A load at a stated concurrency: so many clients, each with one call on its way, for so many calls."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from evaluation.serving_check import LoadFigures
from serving.validation.config import ServingSection
from serving.validation.wires import GrpcClient, Tensors

#: A round above the budget is repeated so often: a neighbour on the machine makes a round slower, never faster.
MAX_ROUNDS = 3


def measure_load(
    port: int, model: str, signature: str, requests: Sequence[Tensors], section: ServingSection, candidates: int
) -> LoadFigures:
    """Loads a server over gRPC and returns the figures of the best round.

    Args:
      port: of gRPC on this machine.
      model: that is asked.
      signature: that is asked.
      requests: that the clients send in turn; at least one.
      section: clients, calls, the budget.
      candidates: of a request, for the record.
    """
    clients = [GrpcClient(port, model) for _ in range(section.concurrency)]
    try:
        encoded = [clients[0].encode(signature, tensors) for tensors in requests]
        for client in clients:  # Connections are made at the first call: that is no part of the load.
            _timed(client, encoded[0])
        rounds = []
        for _ in range(MAX_ROUNDS):
            rounds.append(_one_round(clients, encoded, section))
            if _p99(rounds[-1]) <= section.p99_ms:
                break
    finally:
        for client in clients:
            client.close()
    found = min(rounds, key=_p99)
    latencies, errors, seconds = found
    return LoadFigures(
        signature=signature,
        candidates=candidates,
        concurrency=section.concurrency,
        calls=len(latencies) + sum(errors.values()),
        seconds=seconds,
        p50_ms=float(np.percentile(latencies, 50)) if latencies else None,
        p99_ms=_p99(found) if latencies else None,
        errors=dict(errors),
        rounds_p99_ms=tuple(_p99(each) for each in rounds if each[0]),
    )


def _one_round(clients: Sequence[GrpcClient], requests: Sequence[bytes], section: ServingSection):
    """Latencies of the answered calls in milliseconds, failures by status, and the seconds of all.

    A round ends early once it is lost, more than one call in a hundred having failed or taken longer than the budget: a
    model that takes seconds would hold up a run for minutes.
    """
    numbers, taking = itertools.cycle(range(len(requests))), threading.Lock()
    left = iter(range(section.calls))
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    lost = 0

    def work(client: GrpcClient) -> None:
        nonlocal lost
        while True:
            with taking:
                if lost > section.calls / 100 or next(left, None) is None:
                    return
                request = requests[next(numbers)]
            milliseconds, failed = _timed(client, request)
            with taking:
                lost += bool(failed) or milliseconds > section.p99_ms
                if failed:
                    errors[failed] += 1
                else:
                    latencies.append(milliseconds)

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in clients]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, errors, time.perf_counter() - begun


def _timed(client: GrpcClient, request: bytes) -> tuple[float, str]:
    """Milliseconds of a call, and its status where it failed."""
    import grpc

    begun, failed = time.perf_counter(), ""
    try:
        client.send(request)
    except grpc.RpcError as error:
        failed = error.code().name
    return 1000 * (time.perf_counter() - begun), failed


def _p99(measured) -> float:
    """p99 of a round in milliseconds; infinite where no call was answered."""
    return float(np.percentile(measured[0], 99)) if measured[0] else float("inf")
