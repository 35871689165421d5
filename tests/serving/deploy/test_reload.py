"""A switch on servers that run: no call fails, what cannot be loaded is taken back, what was cut short is ended."""

import shutil
import threading
import time

import grpc
import pytest
import typer
from typer.testing import CliRunner

from features.errors import RunError
from pipeline.cli.app import LazyGroup
from pipeline.cli.serving.serve_reload import reload
from serving.deploy.reload import Certificates, RunningServer, switch
from serving.deploy.served import ServedModel, to_text
from tests.serving.deploy import running
from tests.serving.deploy.ranking_model import save_ranking_model

pytestmark = pytest.mark.slow

V1 = {"ranker": ServedModel(frozenset({1}), {"stable": 1}), "tower": ServedModel(frozenset({1}), {"stable": 1})}
V2 = {"ranker": ServedModel(frozenset({2}), {"stable": 2}), "tower": ServedModel(frozenset({2}), {"stable": 2})}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_ranking_model(folder / "ranker", version)
        shutil.copytree(folder / "ranker" / str(version), folder / "tower" / str(version))
    broken = folder / "ranker" / "3"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no graph")
    return folder


@pytest.fixture(scope="module", params=running.KINDS)
def two(request, models, tmp_path_factory):
    """Two servers of `V1`."""
    path = tmp_path_factory.mktemp("config") / "models.config"
    path.write_text(to_text(V1, str(models)))
    with running.server(path, request.param) as first, running.server(path, request.param) as second:
        yield [first.grpc, second.grpc]


@pytest.fixture
def servers(two, models):
    """Two connected servers that serve `V1` when the test begins."""
    found = [RunningServer(address, str(models), Certificates().channel(address)) for address in two]
    switch(found, V1, timeout_s=60)
    return found


def now(server):
    return server.served(("ranker", "tower"), ("stable", "canary"))


def test_a_server_tells_what_it_serves(servers):
    assert [now(server) for server in servers] == [V1, V1]
    assert servers[0].served(("gone",), ("stable",)) == {}


def test_every_step_is_done_by_all_before_the_next(servers):
    told = []
    assert switch(servers, V2, timeout_s=60, tell=told.append) == 2
    assert [line.split(": ")[1] for line in told] == ["load", "load", "label", "label", "retire", "retire"]
    assert [now(server) for server in servers] == [V2, V2]
    assert switch(servers, V2, tell=told.append) == 0 and len(told) == 6


def test_a_canary_comes_and_goes_and_stable_stays(servers):
    beside = V1 | {"ranker": ServedModel(frozenset({1, 2}), {"stable": 1, "canary": 2})}
    for wanted in (beside, V1):
        assert switch(servers, wanted, timeout_s=60) == 2
        assert [now(server) for server in servers] == [wanted, wanted]


def test_calls_by_label_do_not_fail_and_go_over_once(servers, two):
    from tensorflow_serving.apis import prediction_service_pb2_grpc
    from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest

    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name, request.model_spec.version_label = "ranker", "stable"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(two[0]))
    seen, ended = [], threading.Event()

    def ask():
        while not ended.is_set():
            try:
                seen.append(stub.GetModelMetadata(request, timeout=10).model_spec.version.value)
            except grpc.RpcError as error:
                seen.append(error)
            time.sleep(0.001)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        switch(servers, V2, timeout_s=60)
        after = len(seen)
        time.sleep(0.2)
    finally:
        ended.set()
        asking.join()
    assert set(seen) == {1, 2} and seen == sorted(seen) and seen[after + 1] == 2


def test_a_version_that_cannot_be_loaded_is_taken_back_everywhere(servers):
    beside = V1 | {"ranker": ServedModel(frozenset({1, 2}), {"stable": 1, "canary": 2})}
    switch(servers, beside, timeout_s=60)
    with pytest.raises(RunError, match=r"cannot load version 3 of ranker: .*Every server serves what it served before"):
        switch(servers, V1 | {"ranker": ServedModel(frozenset({3}), {"stable": 3})}, timeout_s=60)
    assert [now(server) for server in servers] == [beside, beside]


def test_a_version_that_is_not_there_is_waited_for_no_longer_than_asked(servers):
    with pytest.raises(RunError, match=r"version 9 of ranker is not available after .*/ranker/9 exist there\?"):
        switch(servers, V1 | {"ranker": ServedModel(frozenset({9}), {"stable": 9})}, timeout_s=1)
    assert [now(server) for server in servers] == [V1, V1]


def test_a_switch_that_was_cut_short_is_finished(servers):
    loaded = {name: ServedModel(frozenset({1, 2}), {"stable": 1}) for name in V1}
    servers[0].reload(loaded, 60)
    servers[0].await_available({name: (1, 2) for name in V1}, 60)
    servers[1].reload(loaded, 60)
    servers[1].await_available({name: (1, 2) for name in V1}, 60)
    servers[1].reload({name: ServedModel(frozenset({1, 2}), {"stable": 2}) for name in V1}, 60)
    assert switch(servers, V2, timeout_s=60) == 2
    assert [now(server) for server in servers] == [V2, V2]


def test_a_model_that_goes_is_retired_last(servers):
    told = []
    alone = {"ranker": V1["ranker"]}
    assert switch(servers, alone, names=["tower"], timeout_s=60, tell=told.append) == 2
    assert [now(server) for server in servers] == [alone, alone] and len(told) == 2


def test_nobody_there_is_a_message(servers):
    nobody = RunningServer("127.0.0.1:1", "/models", Certificates().channel("127.0.0.1:1"))
    with pytest.raises(RunError, match=r"127\.0\.0\.1:1 answered UNAVAILABLE"):
        switch([*servers, nobody], V2, timeout_s=5)
    assert [now(server) for server in servers] == [V1, V1]


def call(monkeypatch, *arguments):
    app = typer.Typer(cls=LazyGroup, rich_markup_mode=None)
    app.callback()(lambda: None)
    monkeypatch.setattr("pipeline.cli.app.COMMANDS", {"reload": (f"{reload.__module__}:reload", "")})
    return CliRunner().invoke(app, ["reload", *map(str, arguments)])


def test_the_command_switches_to_what_was_written(servers, two, models, tmp_path, monkeypatch):
    written = tmp_path / "server" / "models.config"
    written.parent.mkdir()
    written.write_text(to_text(V2, str(models)))
    addresses = [part for address in two for part in ("--address", address)]
    result = call(monkeypatch, *addresses, "--deploy", tmp_path, "--timeout", 60)
    assert result.exit_code == 0 and "2 of 2 servers switched" in result.stdout, result.output
    assert [now(server) for server in servers] == [V2, V2]
    assert "every server serves this already" in call(monkeypatch, *addresses, "--deploy", tmp_path).stdout


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["--address", "127.0.0.1:1", "--deploy", "{tmp}/gone"], 2, "`clickmill serve config --out"),
        (["--address", "here", "--deploy", "{tmp}"], 2, "an address is HOST:PORT. Received: here"),
        (["--address", "127.0.0.1:1", "--deploy", "{tmp}", "--cert", "x"], 2, "--cert goes with --key"),
        (["--address", "127.0.0.1:1", "--deploy", "{tmp}", "--ca", "{tmp}/ca.pem"], 2, "ca.pem"),
        (["--address", "127.0.0.1:1", "--deploy", "{tmp}"], 1, "answered UNAVAILABLE"),
    ],
)
def test_what_cannot_be_done_is_a_message(tmp_path, monkeypatch, arguments, code, told):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "models.config").write_text(to_text(V2, "/models"))
    result = call(monkeypatch, *(each.format(tmp=tmp_path) for each in arguments))
    assert result.exit_code == code and told in result.stderr and "Traceback" not in result.output, result.output
