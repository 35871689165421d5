"""The gateway on a port: when it answers, how it drains, what it does about callers that misbehave."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import httpx
import pytest

from features.errors import RunError
from serving.gateway.web import bodies, http_server
from serving.gateway.web.http_server import GatewayServer
from tests.serving.gateway.web.scripted_gateway import ScriptedGateway

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def answering(monkeypatch, gateway):
    """A server of a scripted gateway on a free port."""

    async def opened(config):
        return gateway

    monkeypatch.setattr(http_server, "_open", opened)
    config = gateway.config.model_copy(update={"port": 0})
    with GatewayServer(config) as server:
        yield server


def received(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_it_answers_once_it_has_started_and_no_longer_after_it_was_stopped(monkeypatch):
    gateway = ScriptedGateway(missing=("the model server does not answer",))
    with answering(monkeypatch, gateway) as server:
        assert httpx.get(server.url + "/healthz").text == "ok\n"
        assert server.missing() == ["the model server does not answer"] == server.wait_until_ready(0.01)
        assert httpx.get(server.url + "/readyz").status_code == 503
        assert httpx.post(server.url + "/v1/recommend", json={"k": 3}).json()["items"] == []
    assert gateway.closed and not server.running and server.missing()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/healthz")


def test_a_release_that_cannot_be_opened_ends_the_start(monkeypatch):
    async def refuse(config):
        raise RunError("no release")

    monkeypatch.setattr(http_server, "_open", refuse)
    with pytest.raises(RunError, match="no release"):
        GatewayServer(ScriptedGateway(port=0).config).start()


def test_a_port_that_is_taken_is_told(monkeypatch):
    with answering(monkeypatch, ScriptedGateway()) as server:
        config = server.config.model_copy(update={"port": server.port})
        with pytest.raises(RunError, match=f"cannot listen on 127.0.0.1:{server.port}: .* --port"):
            GatewayServer(config).start()


def test_requests_in_flight_are_answered_before_it_ends(monkeypatch):
    begun, hold = threading.Event(), threading.Event()

    async def wait():
        begun.set()
        while not hold.is_set():
            await asyncio.sleep(0.01)

    answers = []
    with answering(monkeypatch, ScriptedGateway(lambda _: wait())) as server:
        caller = threading.Thread(target=lambda: answers.append(httpx.post(server.url + "/v1/recommend", json={})))
        caller.start()
        assert begun.wait(10)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        until = time.monotonic() + 10
        with pytest.raises(httpx.ConnectError):  # nobody else is let in
            while time.monotonic() < until:
                httpx.get(server.url + "/healthz")
        assert stopper.is_alive() and answers == []
        hold.set()
        stopper.join(10)
        caller.join(10)
    assert [answer.status_code for answer in answers] == [200]


def test_a_body_that_never_comes_holds_no_place(monkeypatch):
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    with answering(monkeypatch, ScriptedGateway(max_concurrent=1, max_waiting=0)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
            answer = received(slow)
        assert answer.startswith(b"HTTP/1.1 408 ") and b'"body_timeout"' in answer
        assert httpx.post(server.url + "/v1/recommend", json={}).status_code == 200


def test_callers_that_go_away_leave_their_places(monkeypatch):
    with answering(monkeypatch, ScriptedGateway(max_concurrent=1, max_waiting=0)) as server:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as gone:
                gone.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
        until = time.monotonic() + 10
        while (answer := httpx.post(server.url + "/v1/recommend", json={})).status_code == 429:
            assert time.monotonic() < until
        assert answer.status_code == 200


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_without_end_is_cut(monkeypatch, declared):
    with answering(monkeypatch, ScriptedGateway(max_body_bytes=2048)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as endless:
            length = b"Content-Length: 99999999999\r\n\r\n" if declared else b"Transfer-Encoding: chunked\r\n\r\n"
            endless.sendall(HEAD + length)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(1000):
                    endless.sendall(b"800\r\n" + b" " * 2048 + b"\r\n")
            answer = received(endless)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
        assert httpx.get(server.url + "/healthz").status_code == 200


def test_a_body_a_little_too_large_gets_its_answer_and_the_connection_ends(monkeypatch):
    with answering(monkeypatch, ScriptedGateway(max_body_bytes=2**20)) as server:
        for _ in range(5):
            answer = httpx.post(server.url + "/v1/rank", content=b" " * (3 * 2**20))
            assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"


def test_a_connection_serves_many_requests_refused_ones_too(monkeypatch):
    with answering(monkeypatch, ScriptedGateway()) as server, httpx.Client(base_url=server.url) as client:
        for number in range(20):
            assert client.post("/v1/recommend", json={"k": number + 1}).status_code == 200
            assert client.post("/v1/recommend", json={"k": 0}).status_code == 422
            assert client.get("/nowhere").status_code == 404


def test_answers_do_not_wait_for_company():
    """asyncio turns Nagle's algorithm off where the socket names its protocol; otherwise each answer takes 40 ms."""
    with http_server._listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_what_is_no_http_is_refused(monkeypatch):
    with answering(monkeypatch, ScriptedGateway()) as server:
        for text in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET\r\n\r\n",
            b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nX\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(text + b"\r\n\r\n")
                head, _, body = received(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 "), text
            assert json.loads(body)["error"]["code"] == "bad_request"
        assert httpx.get(server.url + "/healthz").status_code == 200
