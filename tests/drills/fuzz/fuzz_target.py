"""Sends one input of the fuzz drill, and judges how it ended."""

from __future__ import annotations

import http.client
import json
import subprocess
import time

import grpc

from tests.drills.fuzz.fuzz_inputs import GrpcInput, RestInput

LIMIT_S = 20.0
"""A call that takes longer hangs; the server gives up after 5 seconds."""

_CODES = {200, 400, 401, 403, 404, 409, 413, 429, 499, 500, 501, 503, 504}


class FuzzTarget:
    """A server in another process.

    Args:
      process: the server's, whose standard input and output are pipes.
      grpc_port: port of gRPC.
      rest_port: port of REST.
    """

    SECRET = "nothing may ever answer this"

    def __init__(self, process: subprocess.Popen, grpc_port: int, rest_port: int) -> None:
        self._process, self._rest_port = process, rest_port
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}", [("grpc.max_receive_message_length", -1)])
        self._rest: http.client.HTTPConnection | None = None

    def send(self, each: RestInput | GrpcInput) -> str:
        """Sends an input and returns how it ended.

        Raises:
          AssertionError: it ended as nothing may end.
        """
        began = time.monotonic()
        try:
            ended = self._send_rest(each) if isinstance(each, RestInput) else self._send_grpc(each)
        except TimeoutError:
            raise AssertionError(f"no answer within {LIMIT_S} s") from None
        assert time.monotonic() - began < LIMIT_S
        return ended

    def check_paths(self) -> None:
        """Asks the server which paths it touched.

        Raises:
          AssertionError: one lies outside.
        """
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        touched = json.loads(self._process.stdout.readline())
        assert not touched, f"paths outside the base were touched: {touched[:20]}"

    def _send_rest(self, each: RestInput) -> str:
        try:
            status, body = self._ask(each)
        except (http.client.HTTPException, ConnectionError):
            # A connection that the server closed meanwhile is opened anew; a server that is gone is found so.
            self._rest = None
            status, body = self._ask(each)
        assert status in _CODES, f"HTTP {status}"
        assert self.SECRET.encode() not in body and b"100" + b"3.5" not in body
        if status == 200 or each.method in ("HEAD", "OPTIONS"):
            return f"REST {status}"
        if not body.startswith(b"<HTML>") and not body.startswith(b"Unexpected path"):
            message = json.loads(body.decode("utf-8", "replace"))["error"]
            assert message and not (status == 500 and "Error:" in message), f"HTTP {status}: {message}"
        return f"REST {status}"

    def _ask(self, each: RestInput) -> tuple[int, bytes]:
        if self._rest is None:
            assert self._process.poll() is None, f"the server ended with {self._process.returncode}"
            self._rest = http.client.HTTPConnection("127.0.0.1", self._rest_port, timeout=LIMIT_S)
            self._rest._validate_path = lambda url: None
        self._rest.request(each.method, each.path, each.body or None, dict(each.headers))
        response = self._rest.getresponse()
        return response.status, response.read()

    def _send_grpc(self, each: GrpcInput) -> str:
        call = self._channel.unary_unary(each.method, lambda body: body, lambda body: body)
        try:
            answer = call(each.body, timeout=LIMIT_S)
        except grpc.RpcError as error:
            code, message = error.code(), error.details()
            alive = self._process.poll() is None
            assert alive, f"the server ended with {self._process.returncode}"
            assert code is not grpc.StatusCode.UNAVAILABLE, f"the connection broke: {message}"
            assert code is not grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {LIMIT_S} s"
            assert message, f"{code.name} without a message"
            assert "Exception calling application" not in message, message
            assert not (code is grpc.StatusCode.INTERNAL and "Error:" in message), message
            return f"gRPC {code.name}"
        assert self.SECRET.encode() not in answer
        return "gRPC OK"
