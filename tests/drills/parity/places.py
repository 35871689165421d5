"""Servers that answer for exports: the embedded one, and TensorFlow Serving, which may merge requests."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from serving.deploy.config import Batching, Deployment
from serving.deploy.served import Served, to_text
from serving.deploy.server_files import server_files
from tests.serving.conformance.servers import run_binary

#: Calls that are on their way at once: enough to be merged.
CALLERS = 16
#: Place → whether its server merges requests, and fills them up to one width.
PLACES = {
    "embedded": (False, False),
    "real": (False, False),
    "real-merging-alike": (True, False),
    "real-merging": (True, True),
}
#: A real server waits so long for company, so that most calls find some.
_WAIT_MICROS = 5_000


class Place(NamedTuple):
    """A server that runs.

    Attributes:
      grpc_port: of gRPC on this machine.
      rest_port: of REST.
    """

    grpc_port: int
    rest_port: int

    def metrics(self) -> str:
        """Returns its page of metrics."""
        url = f"http://127.0.0.1:{self.rest_port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()

    def merged_runs(self) -> int:
        """Returns how many runs the server has made of requests that it may merge; 0 where it merges none."""
        found = re.search(r"^:tensorflow:serving:batching_session:wrapped_run_count\S* (\d+)", self.metrics(), re.M)
        return int(found[1]) if found else 0

    def warmed_up(self) -> int:
        """Returns how many models were warmed up without an error."""
        pattern = r'^:tensorflow:serving:model_warmup_latency_count\{[^}]*status="OK"\} [1-9]'
        return len(re.findall(pattern, self.metrics(), re.M))


@contextlib.contextmanager
def serve(name: str, served: Served, base: Path, work: Path) -> Iterator[Place]:
    """Serves exports, warmed up, until the block ends.

    Args:
      name: one of `PLACES`.
      served: models and versions.
      base: absolute path of the folder of the models.
      work: an empty folder.
    """
    config = work / "models.config"
    config.write_text(to_text(served, str(base)), encoding="utf-8")
    if name == "embedded":
        with _embedded(config) as place:
            yield place
        return
    flags = [f"--grpc_max_threads={4 * CALLERS}", f"--rest_api_num_threads={2 * CALLERS}"]
    merging, filling = PLACES[name]
    if merging:
        parameters = work / "batching.config"
        parameters.write_text(_batching_parameters(served, filling), encoding="utf-8")
        flags += ["--enable_batching=true", f"--batching_parameters_file={parameters}"]
    with run_binary(config, work, flags) as addresses:
        yield Place(*(int(address.rpartition(":")[2]) for address in addresses))


@contextlib.contextmanager
def _embedded(config: Path) -> Iterator[Place]:
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer

    settings = ServeConfig(models_config=str(config), port=0, rest_port=0, poll_s=0, max_load_retries=0, drain_s=5.0)
    with ModelServer(settings) as server:
        yield Place(server.grpc_port, server.rest_port)


def _batching_parameters(served: Served, filling: bool) -> str:
    """The parameters that `clickmill serve config` writes, but that a server waits for company."""
    batching = Batching(enabled=True, timeout_micros=_WAIT_MICROS, max_enqueued_batches=4 * CALLERS)
    text = server_files(served, Deployment(batching=batching))["batching_params.pbtxt"]
    fills = "pad_variable_length_inputs: true"
    if fills not in text:
        raise AssertionError(f"a deployment that merges fills up: {text}")
    return text if filling else text.replace(fills, fills.replace("true", "false"))
