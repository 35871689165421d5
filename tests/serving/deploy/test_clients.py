"""The clients of docs/guides/clients: each asks a server that runs, and gets the scores that the others get."""

import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from serving.deploy.config import Deployment
from serving.deploy.descriptors import protoset
from serving.deploy.served import ServedModel, to_text
from serving.deploy.server_files import server_files
from tests.serving.deploy import running
from tests.serving.deploy.ranking_model import REQUEST, save_ranking_model
from tests.serving.deploy.tools import CLIENTS, go_client, node_client

pytestmark = pytest.mark.slow

MODEL = "shop_autoint"
SERVED = {MODEL: ServedModel(frozenset({1, 2}), {"stable": 2, "canary": 1})}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What clients need: a request, the descriptors, a body that no server takes."""
    found = tmp_path_factory.mktemp("clients")
    (found / "request.json").write_text(json.dumps(REQUEST, ensure_ascii=False), encoding="utf-8")
    (found / "tf_serving.protoset").write_bytes(protoset().SerializeToString())
    lacking = {name: values for name, values in REQUEST["inputs"].items() if name != "price"}
    (found / "lacking.json").write_text(json.dumps(REQUEST | {"inputs": lacking}), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_ranking_model(models / MODEL, version)
    (models / "models.config").write_text(to_text(SERVED, str(models)))
    with running.server(models / "models.config") as found:
        yield found


@pytest.fixture(scope="module")
def expected(addresses):
    """The scores, computed here."""
    inputs = {name: np.array(values) for name, values in REQUEST["inputs"].items()}
    of_user = len("Köln".encode()) + inputs["hour"][0]
    letters = np.array([[sum(len(word.encode()) for word in words) for words in slate] for slate in inputs["title"]])
    return 1 / (1 + np.exp(-((of_user + letters) / (inputs["price"] + 20) - 2)))


def python(name):
    return [sys.executable, str(CLIENTS / "python" / name)]


def by_grpc(command, address, folder, request="request.json"):
    """Runs a client; it prints what it got as JSON."""
    found = [str(folder / request)] + ([] if command[-1].endswith("rank.py") else [str(folder / "tf_serving.protoset")])
    return subprocess.run(
        [*command, address, MODEL, *found],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.parametrize(
    "command",
    [lambda: python("rank.py"), lambda: python("rank_without_tensorflow.py"), node_client, go_client],
    ids=["python", "python without TensorFlow", "node", "go"],
)
def test_a_client_gets_the_scores_of_the_stable_version(command, addresses, folder, expected):
    words = command()
    done = by_grpc(words, addresses.grpc, folder)
    assert done.returncode == 0, done.stderr[-2_000:]
    answer = json.loads(done.stdout)
    assert answer["version"] == 2
    np.testing.assert_allclose(answer["score"], expected, atol=1e-6)
    refused = by_grpc(words, addresses.grpc, folder, "lacking.json")
    assert refused.returncode and "Missing but required: {price}" in refused.stderr + refused.stdout


def test_curl_gets_them_too(addresses, folder, expected):
    if not shutil.which("curl"):
        pytest.skip("curl is not on PATH")
    command = ["sh", str(CLIENTS / "curl.sh"), addresses.rest, MODEL]
    done = subprocess.run([*command, str(folder / "request.json")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    np.testing.assert_allclose(json.loads(done.stdout)["outputs"]["score"], expected, atol=1e-6)
    refused = subprocess.run([*command, str(folder / "lacking.json")], capture_output=True, text=True, timeout=60)
    assert refused.returncode and "price" in json.loads(refused.stdout)["error"]


def test_the_client_without_tensorflow_imports_none(tmp_path):
    code = (
        "import runpy, sys; sys.argv = ['x']\ntry: runpy.run_path({!r}, run_name='__main__')\nexcept ValueError: pass\n"
    )
    path = str(CLIENTS / "python" / "rank_without_tensorflow.py")
    done = subprocess.run(
        [sys.executable, "-c", code.format(path) + "print('tensorflow' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    "served, told",
    [
        (SERVED, ""),
        (
            SERVED | {"gone": ServedModel(frozenset({1}), {"stable": 1})},
            "/v1/models/gone/labels/stable/metadata: 400\n",
        ),
        ({MODEL: ServedModel(frozenset({1}), {"next": 1})}, f"/v1/models/{MODEL}/labels/next/metadata: 400\n"),
    ],
    ids=["all models", "a model that is not there", "a label that is not set"],
)
def test_ready_means_that_every_model_answers_under_every_label(addresses, tmp_path, served, told):
    done = ready(served, int(addresses.rest.split(":")[1]), tmp_path)
    assert (done.returncode == 0) == (not told) and done.stdout == told, done.stderr


def test_a_closed_port_is_not_ready(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert ready(SERVED, closed.getsockname()[1], tmp_path).returncode


def test_a_port_that_is_open_and_says_nothing_is_not_ready(tmp_path):
    """What a probe of TCP would take for ready."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        done = ready(SERVED, silent.getsockname()[1], tmp_path)
    assert done.returncode and "no answer" in done.stdout


def ready(served, port, folder):
    deployment = Deployment.model_validate({"rest_port": port, "grpc_port": 1024 if port != 1024 else 1025})
    (folder / "ready.sh").write_text(server_files(served, deployment)["ready.sh"])
    return subprocess.run(["bash", str(folder / "ready.sh")], capture_output=True, text=True, timeout=30)
