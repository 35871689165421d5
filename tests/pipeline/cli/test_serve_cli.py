"""`clickmill serve` as a process: it says where it listens, answers, and ends well by SIGTERM."""

import os
import re
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app as cli
from tests.serving.server.serving_case import Clients, floats, predict_request
from tests.serving.server.toy_models import save_half_plus, save_kinds

runner = CliRunner()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    save_half_plus(folder / "half" / "1", 2.0)
    save_kinds(folder / "kinds" / "1")
    return folder


@pytest.fixture
def serve():
    """Starts `clickmill serve` with arguments; what is left of it is killed."""
    started = []

    def run(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipeline.cli.app", "serve", "--port", "0", "--no-rest", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def clients(process) -> Clients:
    """The stubs of a process, once it has said where it listens."""
    for line in process.stdout:
        if found := re.fullmatch(r"gRPC on 127\.0\.0\.1:(\d+)\n", line):
            return Clients(f"127.0.0.1:{found[1]}")
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_calls_in_flight_are_answered_after_sigterm(serve, base):
    process = serve("--model", f"half={base / 'half'}", "--model", f"kinds={base / 'kinds'}")
    stubs = clients(process)
    answer = stubs.prediction.Predict(predict_request("half", x=floats(2)), timeout=60)
    assert list(answer.outputs["y"].float_val) == [3.0]
    call = stubs.prediction.Predict.future(predict_request("kinds", "spin", n=np.int64(2_000_000)), timeout=100)
    # The call has arrived when a second one on the same channel is answered.
    stubs.prediction.Predict(predict_request("half", x=floats(2)), timeout=60)
    process.send_signal(signal.SIGTERM)
    assert call.code() is grpc.StatusCode.OK
    assert process.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_server_that_still_loads_ends_at_once(serve, base, tmp_path):
    (tmp_path / "half" / "1").mkdir(parents=True)  # a load that fails, and is tried again in an hour
    process = serve("--model", f"half={tmp_path / 'half'}", "--load-retry-interval", "3600")
    for line in process.stderr:
        if "cannot be loaded" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_one_line_and_exit_code_1(serve, tmp_path):
    (tmp_path / "half" / "1").mkdir(parents=True)
    process = serve("--model", f"half={tmp_path / 'half'}", "--load-retries", "0")
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 1 and output == "" and "Traceback" not in errors
    assert "clickmill: Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: " in errors


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "say what is served in one way"),
        (["-m", "half"], "--model takes NAME=PATH. Received: 'half'."),
        (["-m", "half=no/such"], "no such folder"),
        (["-m", "a=.", "-m", "a=."], "--model: a is given twice."),
        (["-m", "a=.", "--tls-key", "x"], "TLS takes both --tls-key and --tls-certificate."),
        (["-m", "a=.", "--root", "."], "say what is served in one way"),
        (["--models-config", "no/such.config"], "no/such.config"),
        (["--root", "no/such"], "no/such"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_used(arguments, text):
    result = runner.invoke(cli.app, ["serve", *arguments])
    assert result.exit_code == 2 and text in result.stderr and result.stdout == "", result.output


def test_the_command_s_defaults_are_those_of_the_configuration():
    from serving.server.config import ServeConfig

    help_text = runner.invoke(cli.app, ["serve", "--help"], env={**os.environ, "COLUMNS": "400"}).stdout
    fields = ServeConfig.model_fields
    for option, field in (
        ("--host", "host"),
        ("--port", "port"),
        ("--rest-port", "rest_port"),
        ("--workers", "workers"),
        ("--queue", "queue"),
        ("--drain", "drain_s"),
        ("--poll", "poll_s"),
        ("--load-retries", "max_load_retries"),
        ("--load-retry-interval", "load_retry_s"),
        ("--warmup-iterations", "warmup_iterations"),
    ):
        text = help_text.split(f"  {option} ")[1].split("\n  -")[0]
        assert f"[default: {fields[field].default}]" in " ".join(text.split()), option
    assert fields["max_message_bytes"].default == 64 * 2**20
