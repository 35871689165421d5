"""`clickmill gateway` as a process: beside its model server, ended by Ctrl-C, and by a kill."""

import json
import os
import signal
import time

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from pipeline.cli import app as cli
from tests.drills.gateway.stand import command_stand, make_releases

runner = CliRunner()


@pytest.fixture(scope="module")
def root(cascade_work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway_cli") / "serving"
    make_releases(cascade_work, folder)
    return folder


def server_of(stand) -> psutil.Process:
    """The process of the model server that came with a gateway."""
    (found,) = [each for each in psutil.Process(stand.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    return found


def wait_for_end(process: psutil.Process) -> None:
    """Waits without reaping it, as its parent may want its exit code."""
    until = time.monotonic() + 60
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, f"{process} does not end"
        time.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_drains_the_gateway_and_then_its_server(root):
    with command_stand(root, "--deadline", "5000", ends_by=signal.SIGINT) as stand:
        server = server_of(stand)
        answer = httpx.post(stand.url + "/v1/recommend", json={"user": "u0000001", "k": 3}, timeout=30).json()
        assert len(answer["items"]) == 3 and httpx.get(stand.url + "/readyz").status_code == 200
        # The terminal's Ctrl-C goes to the group of the foreground, which the server is not in.
        assert os.getpgid(server.pid) != os.getpgid(stand.pid)
    assert not server.is_running()
    assert "Traceback" not in stand.log.read_text()


@pytest.mark.slow
def test_a_gateway_that_is_killed_leaves_no_server(root):
    with pytest.raises(AssertionError, match="ended with -9"), command_stand(root) as stand:
        server = server_of(stand)
        os.kill(stand.pid, signal.SIGKILL)
        wait_for_end(server)


@pytest.mark.slow
def test_a_gateway_whose_server_ends_says_so(root):
    with (
        pytest.raises(AssertionError, match="(?s)ended with 1: .*model server that came"),
        command_stand(root) as stand,
    ):
        server_of(stand).kill()
        wait_for_end(psutil.Process(stand.pid))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name the serving root by --root"),
        (["--root", "no/such"], "no/such: no such folder"),
        (["--root", "{tmp}"], "holds no release"),
        (["--root", "{tmp}", "--label", "stable"], "stable"),
        (["--root", "{tmp}", "--server", "nowhere"], "HOST:PORT"),
        (["--root", "{tmp}", "--server", "127.0.0.1:0"], "HOST:PORT"),
        (["--root", "{tmp}", "--deadline", "-1"], "deadline_ms"),
        (["--root", "{tmp}", "--deadline", "100"], "holds no release"),
        (["--settings", "{settings}", "--deadline", "100"], "Did you mean `deadline_ms`"),
        (["--settings", "{settings}"], "Did you mean `deadline_ms`"),
    ],
)
def test_options_that_cannot_be_used_are_told(arguments, told, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({"root": "x", "deadline_s": 5}))
    empty = tmp_path / "empty"
    empty.mkdir()
    filled = [each.format(tmp=empty, settings=settings) for each in arguments]
    result = runner.invoke(cli.app, ["gateway", *filled])
    assert result.exit_code == 2 and result.stdout == ""
    assert told in result.stderr, result.stderr
