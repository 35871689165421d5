"""Sends one body of the fuzz drill to a gateway, and judges the answer."""

from __future__ import annotations

import http.client
import json
import time

from serving.gateway.schema import BehaviorsAnswer, Recommendation
from serving.gateway.web.error_answers import CODES, ErrorAnswer
from tests.drills.gateway.fuzz_bodies import Body

#: A request that takes longer hangs: the gateway's deadline is far below.
LIMIT_S = 30.0
_ANSWERS = {"/v1/recommend": Recommendation, "/v1/rank": Recommendation, "/v1/behaviors": BehaviorsAnswer}


class FuzzTarget:
    """A gateway on this machine's loopback.

    Args:
      port: of HTTP.
    """

    def __init__(self, port: int):
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def send(self, each: Body) -> str:
        """Sends a body and returns how it ended: the path and the status.

        Raises:
          AssertionError: it ended as nothing may end.
        """
        begun = time.monotonic()
        try:
            status, body = self._ask(each)
        except TimeoutError:
            raise AssertionError(f"no answer within {LIMIT_S} s") from None
        except (http.client.HTTPException, ConnectionError):
            # A connection that was closed meanwhile is opened anew; a gateway that is gone is found so.
            self._connection = None
            status, body = self._ask(each)
        assert time.monotonic() - begun < LIMIT_S
        if status == 200:
            found = _ANSWERS[each.path].model_validate_json(body)
            json.loads(body, parse_constant=_refuse)
            if isinstance(found, Recommendation):
                assert [item.position for item in found.items] == list(range(len(found.items)))
            return f"{each.path} 200"
        assert status in CODES and status != 500, f"HTTP {status}: {body[:500]!r}"
        error = ErrorAnswer.model_validate_json(body).error
        assert error.code == CODES[status] and len(error.message) > 10, error
        assert "Traceback" not in error.message and "Error(" not in error.message, error
        assert (status == 422) == bool(error.problems), error
        return f"{each.path} {status}"

    def _ask(self, each: Body) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT_S)
        self._connection.request("POST", each.path, each.body, {"Content-Type": each.content_type})
        response = self._connection.getresponse()
        return response.status, response.read()


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
