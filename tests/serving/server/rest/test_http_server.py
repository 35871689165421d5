"""HTTP itself: connections, bodies, bounds, and the end of the server."""

import gzip
import http.client
import json
import socket
import threading
import time

import pytest

PREDICT = "/v1/models/half_plus_two:predict"
BODY = '{"instances": [1.0]}'


def ask(server, method="POST", path=PREDICT, body=BODY, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def send_raw(server, data, timeout=10.0):
    """Sends bytes, and returns all that comes until the server closes or says nothing more for a second."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as client:
        client.sendall(data)
        client.settimeout(1.0)
        received = b""
        try:
            while part := client.recv(65536):
                received += part
        except TimeoutError:
            pass
        return received


def predictions(body):
    return json.loads(body)["predictions"]


def test_a_connection_carries_many_requests(serve_rest):
    server = serve_rest()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sockets = set()
    for number in range(5):
        connection.request("POST", PREDICT, json.dumps({"instances": [number]}))
        assert predictions(connection.getresponse().read()) == [number / 2 + 3]
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


def test_requests_may_follow_without_waiting(serve_rest):
    request = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
    assert send_raw(serve_rest(), request * 3).count(b'"predictions": [3.5') == 3


def test_bodies_in_chunks_and_after_continue(serve_rest):
    server = serve_rest()
    assert predictions(ask(server, body=(part.encode() for part in (BODY[:7], BODY[7:])))[1]) == [3.5]
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(head.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(BODY.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_old_client_gets_its_answer_and_the_end(serve_rest):
    received = send_raw(serve_rest(), b"GET /v1/models/half_plus_two HTTP/1.0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"AVAILABLE" in received


def test_head_has_the_length_and_no_body(serve_rest):
    received = send_raw(serve_rest(), b"HEAD /v1/foo HTTP/1.1\r\nHost: x\r\n\r\n")
    head, body = received.split(b"\r\n\r\n")
    assert b"400 Bad Request" in head
    assert b"content-length: 50" in head.lower()
    assert body == b""


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/ models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_not_http_is_refused_and_the_connection_closed(serve_rest, data):
    server = serve_rest()
    received = send_raw(server, data)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b'"error": "Malformed request: ' in received
    assert ask(server)[0] == 200


def test_bodies_above_the_bound_are_not_read(serve_rest):
    server = serve_rest(max_body_bytes=1000)
    message = {"error": "The body of the request is larger than 1000 bytes."}
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n"
    assert send_raw(server, head.encode()).startswith(b"HTTP/1.1 413 ")
    chunks = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{'3e9'}\r\n{' ' * 1001}\r\n"
    assert send_raw(server, chunks.encode()).startswith(b"HTTP/1.1 413 ")
    bomb = gzip.compress(b" " * 10_000_000)[:900]
    assert len(bomb) == 900
    status, body = ask(server, body=bomb, headers={"Content-Encoding": "gzip"})
    assert (status, json.loads(body)) == (413, message)
    assert ask(server)[0] == 200


def test_packed_bodies(serve_rest):
    server, packed = serve_rest(), {"Content-Encoding": "gzip"}
    assert predictions(ask(server, body=gzip.compress(BODY.encode()), headers=packed)[1]) == [3.5]
    for broken in (b"\x1f\x8b", gzip.compress(BODY.encode())[:-9], BODY.encode()):
        status, body = ask(server, body=broken, headers=packed)
        assert (status, json.loads(body)) == (400, {"error": "JSON Parse error: The document is empty"})


def test_one_connection_too_many_is_told_so(serve_rest):
    server = serve_rest(max_connections=2)
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    for client in held:
        client.sendall(b"GET /v1/models/half_plus_two HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    received = send_raw(server, b"")
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"All 2 connections are in use." in received
    held[0].close()
    held[1].close()
    assert eventually(lambda: ask(server, "GET", "/v1/models/half_plus_two", None)[0] == 200)


def test_silence_ends_a_connection(serve_rest):
    server = serve_rest(idle_timeout_s=0.2)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /v1/models/x:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert client.recv(65536) == b""
    assert time.monotonic() - began < 9


SPIN = "/v1/models/kinds:predict"


def spin(count):
    return json.dumps({"signature_name": "spin", "inputs": count})


def test_a_request_is_given_up_after_the_time_out(serve_rest):
    status, body = ask(serve_rest(timeout_s=0.3), path=SPIN, body=spin(10**9))
    assert status == 504
    assert json.loads(body)["error"]


def test_the_end_waits_for_what_is_being_answered(serve_rest):
    server = serve_rest()
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    idle.request("GET", "/v1/models/kinds")
    idle.getresponse().read()
    assert eventually(lambda: not any(connection.busy for connection in list(server._open)))
    found = []
    busy = threading.Thread(target=lambda: found.append(ask(server, path=SPIN, body=spin(100_000))))
    busy.start()
    assert eventually(lambda: any(connection.busy for connection in list(server._open)))
    assert server.stop(grace_s=60)
    busy.join()
    assert found[0][0] == 200
    with pytest.raises(OSError):
        ask(server)
    with pytest.raises((OSError, http.client.HTTPException)):
        idle.request("GET", "/v1/models/kinds")
        idle.getresponse()


def test_a_defect_is_an_answer_with_a_message(serve_rest, rest_core, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(rest_core, "model_status", fail)
    status, body = ask(serve_rest(), "GET", "/v1/models/kinds", None)
    assert (status, json.loads(body)) == (500, {"error": "ZeroDivisionError: by chance"})


def eventually(holds, seconds=20.0):
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
