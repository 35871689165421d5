"""Servers to be asked: the embedded one, or TensorFlow Serving's where `TF_SERVING_BINARY` names its program."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

#: Name under which the model is served.
MODEL = "ranker"
#: Seconds until a server has to serve.
START_S = 300


class Addresses(NamedTuple):
    """Where a server listens, each `host:port`, and the number of its process."""

    grpc: str
    rest: str
    pid: int


def binary() -> str | None:
    """Returns the program of TensorFlow Serving, by `TF_SERVING_BINARY` or on PATH; None: there is none."""
    return os.environ.get("TF_SERVING_BINARY") or shutil.which("tensorflow_model_server")


@contextlib.contextmanager
def embedded(base: Path, workers: int, callers: int) -> Iterator[Addresses]:
    """Yields where `clickmill serve` listens, once it serves.

    Args:
      base: the model's folder of versions.
      workers: calls that it runs at a time.
      callers: calls that may wait.
    """
    with clickmill_serve("--model", f"{MODEL}={base}", "--workers", workers, "--queue", callers) as addresses:
        yield addresses


@contextlib.contextmanager
def clickmill_serve(*options: object) -> Iterator[Addresses]:
    """Yields where `clickmill serve` listens on free ports, once it serves, until the block ends.

    Args:
      *options: of the command, but for its ports.
    """
    command = [*(sys.executable, "-m", "pipeline.cli.app", "serve", "--port", 0, "--rest-port", 0), *options]
    with _running(command) as (process, told):
        found: dict[str, str] = {}
        while len(found) < 2:
            line = process.stdout.readline()
            if not line:
                told.seek(0)
                raise SystemExit(f"clickmill serve did not start: {told.read()[-2_000:]}")
            if match := re.match(r"(gRPC|REST) on (?:http://)?(\S+)", line):
                found[match[1]] = match[2]
        yield Addresses(found["gRPC"], found["REST"], process.pid)


@contextlib.contextmanager
def tensorflow_serving(base: Path, callers: int, max_batch_size: int = 0) -> Iterator[Addresses]:
    """Yields where TensorFlow Serving listens, once it serves.

    Args:
      base: the model's folder of versions.
      callers: calls at once; its threads are set for them.
      max_batch_size: requests that it may merge, with as many batch threads as cores; 0: none.
    """
    ports = [_free_port() for _ in range(2)]
    command = [
        *(binary(), f"--port={ports[0]}", f"--rest_api_port={ports[1]}", f"--model_name={MODEL}"),
        *(f"--model_base_path={base.absolute()}", f"--grpc_max_threads={2 * callers + 16}"),
        *(f"--rest_api_num_threads={callers + 4}", "--max_num_load_retries=0"),
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".pbtxt") as parameters:
        if max_batch_size:
            parameters.write(
                f"max_batch_size {{ value: {max_batch_size} }}\nbatch_timeout_micros {{ value: 0 }}\n"
                f"num_batch_threads {{ value: {os.cpu_count()} }}\npad_variable_length_inputs: true\n"
            )
            parameters.flush()
            command += ["--enable_batching=true", f"--batching_parameters_file={parameters.name}"]
        with _running(command) as (process, told):
            until = time.monotonic() + START_S
            while not _answers(ports[0]):  # its ports open when the model is loaded
                if process.poll() is not None or time.monotonic() > until:
                    told.seek(0)
                    raise SystemExit(f"TensorFlow Serving did not start: {told.read()[-2_000:]}")
                time.sleep(0.1)
            yield Addresses(*(f"127.0.0.1:{port}" for port in ports), process.pid)


@contextlib.contextmanager
def _running(command: list) -> Iterator[tuple[subprocess.Popen, IO[str]]]:
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        try:
            yield process, told
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
