"""The servers that conformance cases need, embedded or real, over copies of the toy models.

| server | serves |
|---|---|
| `plain` | all versions of `half_plus_two`, labelled `stable` (1) and `canary` (2), and `kinds` |
| `cors` | the same, with CORS headers |
| `latest` | the latest version of `half_plus_two` alone |
| `broken` | `half_plus_two`, whose version 3 is an empty folder; for a real one, which would not start, only later |
| `narrow` | the models of `plain`, by one worker with one place to wait |
| `batching` | the models of `plain`, with batching where the server has it: at most 4 rows, one batch waiting |
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.serving.conformance.warmup_files import write_warmup

Addresses = tuple[str, str, str]

_ALL = {"all": {}}
_HALF = {"name": "half_plus_two", "base_path": "{BASE}/half_plus_two", "model_platform": "tensorflow"}
_KINDS = {"name": "kinds", "base_path": "{BASE}/kinds", "model_platform": "tensorflow"}
_LABELS = {"stable": 1, "canary": 2}
_PLAIN = [{**_HALF, "model_version_policy": _ALL, "version_labels": _LABELS}, _KINDS]

#: Server → its models, as models.config has them.
SERVERS: Mapping[str, list[dict[str, Any]]] = {
    "plain": _PLAIN,
    "cors": _PLAIN,
    "latest": [_HALF],
    "broken": [{**_HALF, "model_version_policy": _ALL}],
    "narrow": _PLAIN,
    "batching": _PLAIN,
}
_BATCHING = "max_batch_size { value: 4 }\nmax_enqueued_batches { value: 1 }\nnum_batch_threads { value: 1 }\n"
START_S = 60.0


def real_binary() -> str | None:
    """Returns TensorFlow Serving's program: that of `TF_SERVING_BINARY`, else `tensorflow_model_server` of the PATH."""
    return os.environ.get("TF_SERVING_BINARY") or shutil.which("tensorflow_model_server")


@contextlib.contextmanager
def start(kind: str, server: str, models: Path, work: Path) -> Iterator[Addresses]:
    """Serves copies of the toy models until the block ends.

    Args:
      kind: `embedded` or `real`.
      server: one of `SERVERS`.
      models: folder with the toy models, which stays as it is.
      work: an empty folder.

    Yields:
      The addresses of gRPC and of REST, and the folder of the copies.
    """
    base = work / "models"
    shutil.copytree(models, base)
    broken = base / "half_plus_two" / "3"
    if server == "broken" and kind == "embedded":
        broken.mkdir()
    config = work / "models.config"
    config.write_text(text_format.MessageToString(models_config(server, base)), encoding="utf-8")
    running = _embedded(server, config) if kind == "embedded" else run_binary(config, work, _flags(server, work))
    with running as (grpc_address, rest_address):
        if server == "broken" and kind == "real":
            broken.mkdir()
            _wait_for_end(f"http://{rest_address}/v1/models/half_plus_two/versions/3")
        yield grpc_address, rest_address, str(base)


def models_config(server: str, base: Path) -> model_server_config_pb2.ModelServerConfig:
    """Returns models.config of a server over the models in `base`."""
    config = model_server_config_pb2.ModelServerConfig()
    for model in SERVERS[server]:
        filled = {**model, "base_path": model["base_path"].replace("{BASE}", str(base))}
        json_format.ParseDict(filled, config.model_config_list.config.add())
    return config


def change_files(base: Path, changes: Mapping[str, Any]) -> None:
    """Changes the models in `base`.

    Args:
      base: folder of the models.
      changes: `copy: [FROM, TO]` (whole, by renaming; with `warmup: KIND`, a warm-up file in it), `remove: PATH`, or
        `make: PATH`, an empty folder.
    """
    if "copy" in changes:
        source, target = (base / path for path in changes["copy"])
        aside = base / "aside"
        shutil.copytree(source, aside)
        if "warmup" in changes:
            write_warmup(aside, changes["warmup"])
        target.parent.mkdir(exist_ok=True)
        aside.rename(target)
    if "remove" in changes:
        shutil.rmtree(base / changes["remove"])
    if "make" in changes:
        (base / changes["make"]).mkdir(parents=True)


@contextlib.contextmanager
def run_binary(config: Path, work: Path, flags: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Runs TensorFlow Serving, with metrics, until the block ends. A load that fails is not tried again.

    Args:
      config: its models.config.
      work: a folder to write in; what the server says goes to `log` there.
      flags: further ones.

    Yields:
      The addresses of gRPC and of REST, once every model can be called.

    Raises:
      RuntimeError: if it ends before, or takes too long.
    """
    port, rest_port = _free_port(), _free_port()
    (work / "monitoring.config").write_text("prometheus_config { enable: true }\n", encoding="utf-8")
    command = [
        real_binary() or "tensorflow_model_server",
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={config}",
        f"--monitoring_config_file={work / 'monitoring.config'}",
        "--allow_version_labels_for_unavailable_models=true",
        "--file_system_poll_wait_seconds=1",
        "--max_num_load_retries=0",
        *flags,
    ]
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(port, rest_port, process, work / "log")
        yield f"127.0.0.1:{port}", f"127.0.0.1:{rest_port}"
    finally:
        process.kill()
        process.wait()


def _flags(server: str, work: Path) -> list[str]:
    """The flags that only one server has."""
    if server == "cors":
        return ["--rest_api_enable_cors_support=true"]
    if server == "batching":
        (work / "batching.config").write_text(_BATCHING, encoding="utf-8")
        return [
            "--enable_batching=true",
            f"--batching_parameters_file={work / 'batching.config'}",
            "--grpc_max_threads=64",
        ]
    return ["--grpc_max_threads=4"] if server == "narrow" else ["--grpc_max_threads=16"]


def _wait_for(port: int, rest_port: int, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START_S
    for each in (port, rest_port):
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", each), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)


def _wait_for_end(status: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(status, timeout=10) as answer:
            if b'"END"' in answer.read():
                return
        time.sleep(0.1)
    raise RuntimeError(f"{status}: the version does not end")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _embedded(server: str, config: Path) -> Iterator[tuple[str, str]]:
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer

    settings = ServeConfig(
        models_config=str(config),
        port=0,
        rest_port=0,
        poll_s=0.2,
        max_load_retries=0,
        allow_labels_before_load=True,
        drain_s=5.0,
        rest_cors=server == "cors",
        **({"workers": 1, "queue": 1} if server == "narrow" else {}),
    )
    with ModelServer(settings) as running:
        yield f"127.0.0.1:{running.grpc_port}", f"127.0.0.1:{running.rest_port}"
