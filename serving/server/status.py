"""What a call to the server ends by when it is not answered: a gRPC status code, and TensorFlow Serving's text."""

from __future__ import annotations

import functools
from typing import NoReturn

import grpc

from features.errors import RunError

#: TensorFlow Serving cuts the text of a gRPC status here (grpc_status_util.cc), in bytes.
_LONGEST_TEXT = 1024
_TRUNCATED = "...TRUNCATED"


class ServingError(RunError):
    """A call that is refused or that failed.

    Attributes:
      code: the gRPC status code.
      message: the whole text; only gRPC cuts it (`grpc_text`).
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """The code's name and the text, as `absl::Status::ToString` writes them."""
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    """Returns an error of code INVALID_ARGUMENT."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def grpc_text(message: str) -> str:
    """Returns a text as gRPC carries it: at most 1,024 bytes of it, and a mark if it was cut."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= _LONGEST_TEXT:
        return message
    return encoded[:_LONGEST_TEXT].decode("utf-8", "ignore") + _TRUNCATED


@functools.cache
def _codes() -> dict[int, grpc.StatusCode]:
    return {code.value[0]: code for code in grpc.StatusCode}


def code_of(number: int) -> grpc.StatusCode:
    """Returns the status code of a number, UNKNOWN where there is none."""
    return _codes().get(number, grpc.StatusCode.UNKNOWN)


def raise_from_tensorflow(error: Exception) -> NoReturn:
    """Raises what TensorFlow's own error says as a `ServingError`.

    Args:
      error: a `tf.errors.OpError`.
    """
    raise ServingError(code_of(error.error_code), error.message) from error
