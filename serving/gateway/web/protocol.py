"""HTTP/1.1 as uvicorn speaks it; what is no HTTP is refused in the gateway's own form."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.gateway.web.error_answers import error_answer


class GatewayProtocol(H11Protocol):
    """One connection."""

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are no HTTP, and closes."""
        answer = error_answer(400, f"{msg} Send HTTP/1.1, without TLS.", headers={"connection": "close"})
        try:
            parts = [
                self.conn.send(h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request")),
                self.conn.send(h11.Data(data=answer.body)),
                self.conn.send(h11.EndOfMessage()),
            ]
        except h11.LocalProtocolError:
            parts = []  # An answer is on its way already: nothing can be said before the connection ends.
        self.transport.write(b"".join(part for part in parts if part))
        self.transport.close()
