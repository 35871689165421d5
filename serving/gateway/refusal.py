"""The error that a request to the gateway ends by, with its HTTP status."""

from __future__ import annotations

from features.errors import ClickmillError

BAD_REQUEST, NOT_FOUND, TOO_MANY, UNAVAILABLE, TOO_LATE = 400, 404, 429, 503, 504


class GatewayError(ClickmillError):
    """A request that is not answered. The message says what is wrong, with the value, and what to do.

    Attributes:
      status: of HTTP: 400 for a request that cannot be used, 404 for a release that is not there, 429 when the queue is
        full, 503 when nothing can answer, 504 when the deadline came first.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
