"""Real servers over a models.config, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.serving.conformance.servers import real_binary, run_binary

#: Servers that a switch is tried on: the embedded one, and TensorFlow Serving where its program is.
KINDS = [
    "embedded",
    pytest.param(
        "real",
        marks=pytest.mark.skipif(
            not real_binary(),
            reason="TensorFlow Serving is not here: TF_SERVING_BINARY, or tensorflow_model_server on the PATH",
        ),
    ),
]

START = """
import sys, time
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
config = ServeConfig(
    models_config=sys.argv[1], port=0, rest_port=0, poll_s=0.2, max_load_retries=0, allow_labels_before_load=True
)
with ModelServer(config) as server:
    print("serving", server.grpc_port, server.rest_port, flush=True)
    sys.stdin.read()
"""


#: Callers that come and go while a server is switched; its default is four threads a core.
_REAL_FLAGS = ("--grpc_max_threads=64",)


class Addresses(NamedTuple):
    """Where a server listens, each `host:port`."""

    grpc: str
    rest: str


@contextmanager
def server(models_config: Path, kind: str = "embedded") -> Iterator[Addresses]:
    """Yields where a server of this configuration listens, once it serves; it ends with the block.

    Args:
      models_config: its configuration.
      kind: `embedded`, or `real` for TensorFlow Serving.
    """
    if kind == "real":
        with tempfile.TemporaryDirectory() as work, run_binary(models_config, Path(work), _REAL_FLAGS) as addresses:
            yield Addresses(*addresses)
        return
    command = [sys.executable, "-c", START, str(models_config)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True, env=environment
        )
        try:
            line = process.stdout.readline()
            found = re.match(r"serving (\d+) (\d+)", line)
            if not found:
                told.seek(0)
                raise AssertionError(f"the server did not start: {told.read()[-3_000:]}")
            yield Addresses(*(f"127.0.0.1:{port}" for port in found.groups()))
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
