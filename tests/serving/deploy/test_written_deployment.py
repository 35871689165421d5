"""What `clickmill serve config` writes, started by TensorFlow Serving as it is written."""

import os
import socket
import subprocess
import time
import urllib.request

import pytest
from grpc import insecure_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.deploy.config import CONFIG_FOLDER, Batching, Deployment
from serving.deploy.deployment import write_deployment
from serving.deploy.reload import Certificates, RunningServer, switch
from serving.deploy.served import read_config
from serving.deploy.server_files import METRICS_PATH, server_flags
from serving.release.manifest import Release, ReleasedModel
from tests.serving.conformance.servers import real_binary
from tests.serving.deploy.ranking_model import save_ranking_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not real_binary(),
        reason="TensorFlow Serving is not here: TF_SERVING_BINARY, or tensorflow_model_server on the PATH",
    ),
]
_START_S = 60


def release(version: int) -> Release:
    model = ReleasedModel(name="ranker", stage="fine", version=version, path=f"ranker/{version}")
    return Release(id=f"r{version}", created="2026-11-26T07:30:00+00:00", models=(model,))


def free_ports() -> list[int]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (first, second)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_ranking_model(folder / "ranker", version)
    return folder


@pytest.fixture(params=[False, True], ids=["unmerged", "merging"])
def started(request, models, tmp_path):
    """The deployment's folder, the deployment, and its server, of which both releases' labels are held."""
    grpc_port, rest_port = free_ports()
    deployment = Deployment(
        base=str(models), grpc_port=grpc_port, rest_port=rest_port, batching=Batching(enabled=request.param)
    )
    write_deployment(tmp_path, {"stable": release(1)}, deployment)
    # In a container the folder lies where the flags say.
    flags = [flag.replace(CONFIG_FOLDER, str(tmp_path / "server")) for flag in server_flags(deployment)]
    with (tmp_path / "log").open("wb") as log:
        told = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
        process = subprocess.Popen([real_binary(), *flags], stdout=log, stderr=log, env=told)
    try:
        until = time.monotonic() + _START_S
        while ready(tmp_path):
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()[-2_000:]
            time.sleep(0.1)
        yield tmp_path, deployment
    finally:
        process.kill()
        process.wait()


def ready(folder) -> str:
    """What the readiness probe says is missing; nothing if the server is ready."""
    script = ["bash", str(folder / "server" / "ready.sh")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=30)
    return (done.stdout + done.stderr or "not ready") if done.returncode else ""


def test_it_starts_and_tells_of_itself(started):
    folder, deployment = started
    with insecure_channel(f"127.0.0.1:{deployment.grpc_port}") as channel:
        asked = health_pb2.HealthCheckRequest(service="PredictionService")
        answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    page = urllib.request.urlopen(f"http://127.0.0.1:{deployment.rest_port}{METRICS_PATH}", timeout=10).read().decode()
    assert ":tensorflow:" in page
    log = (folder / "log").read_text()
    assert ("Wrapping session to perform batch processing" in log) == deployment.batching.enabled


def test_a_label_moves_by_the_written_steps(started):
    folder, deployment = started
    address = f"127.0.0.1:{deployment.grpc_port}"
    steps = write_deployment(folder, {"stable": release(2)}, deployment)
    assert [step.name for step in steps] == ["load", "label", "retire"]
    after, base = read_config(folder / "server" / "models.config")
    server = RunningServer(address, base, Certificates().channel(address))
    assert switch([server], after, timeout_s=60) == 1
    assert server.served(("ranker",), ("stable", "canary")) == after
    assert ready(folder) == ""


def test_a_label_without_its_version_is_not_ready(started):
    folder, deployment = started
    address = f"127.0.0.1:{deployment.grpc_port}"
    after, base = read_config(folder / "server" / "models.config")
    bare = {name: type(model)(model.versions) for name, model in after.items()}
    RunningServer(address, base, Certificates().channel(address)).reload(bare, 60)
    assert "labels/stable" in ready(folder)
