"""Every failure as one form of JSON: a code, a message that names what is wrong, the value and the fix."""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from features.config import Strict
from features.errors import ClickmillError, InputError

_log = logging.getLogger(__name__)

#: Code of each status that the gateway ends a request by; codes stay as they are, for programs compare them.
CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_body",
    429: "too_many_requests",
    500: "defect",
    503: "unavailable",
    504: "deadline_exceeded",
}
#: Seconds after which a refused caller may try again: a queue of requests of some hundred milliseconds is empty then.
RETRY_AFTER_S = 1
#: What pydantic adds to a place where a value may be of several types.
_TYPES = ("constrained-str", "constrained-int")
#: Problems of one body that are told, and characters of a received value.
_MOST_PROBLEMS = 20
_MOST_CHARACTERS = 120


class Problem(Strict):
    """One thing that is wrong with a body."""

    where: str = Field(description="The key, as `events.3.timestamp`; empty for the body as a whole.")
    message: str = Field(description="What is wrong, and what is wanted.")
    received: str = Field(description="The value as it came, shortened.")


class ErrorBody(Strict):
    """What went wrong."""

    code: str = Field(description="For programs: " + ", ".join(f"`{code}`" for code in CODES.values()) + ".")
    message: str = Field(description="For people: what is wrong, the value, the fix.")
    problems: list[Problem] = Field([], description="Each problem of a body that does not fit the schema.")


class ErrorAnswer(Strict):
    """The body of every answer that is none."""

    error: ErrorBody


def error_answer(
    status: int, message: str, problems: Sequence[Problem] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Returns the answer to a request that failed; 429 and 503 say when to try again."""
    found = ErrorAnswer(
        error=ErrorBody(code=CODES.get(status, f"http_{status}"), message=printable(message), problems=list(problems))
    )
    more = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return JSONResponse(found.model_dump(mode="json"), status, {**more, **(headers or {})})


def answer_errors(app: FastAPI) -> None:
    """Makes an application answer every exception in the one form."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClickmillError, _known)
    app.add_exception_handler(Exception, _defect)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns what OpenAPI says of the answers by which a request may fail."""
    told = {
        400: "The body is no JSON, or a feature in it does not fit the release.",
        404: "There is no such release, or nothing that could be asked for.",
        408: "The body did not come in time.",
        413: "The body is larger than the gateway reads.",
        415: "The body is not declared as JSON.",
        422: "The body does not fit the schema; `problems` names every key.",
        429: "Too many requests wait already; try again after `Retry-After` seconds.",
        500: "A defect of the gateway; its log has the traceback.",
        503: "Nothing can answer now; try again after `Retry-After` seconds.",
        504: "The deadline passed before there was anything to answer.",
    }
    return {status: {"model": ErrorAnswer, "description": told[status]} for status in statuses}


def printable(text: str) -> str:
    """Returns a text that UTF-8 can hold: a caller's key may have lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shortened(value: Any) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = _MOST_CHARACTERS
    return printable(short.repr(value))[:_MOST_CHARACTERS]


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    problems = problems_of(error.errors())
    first = problems[0]
    where = f"`{first.where}`" if first.where else "the body"
    more = f" And {len(problems) - 1} more, in `problems`." if len(problems) > 1 else ""
    told = f"{where}: {first.message}. Received: {first.received}.{more} See /docs."
    return error_answer(422, told, problems[:_MOST_PROBLEMS])


def problems_of(errors: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Returns pydantic's problems by place; those of a value of two allowed types are told as one."""
    found: dict[str, Problem] = {}
    for error in errors:
        parts = [str(part) for part in error["loc"][error["loc"][:1] == ("body",) :]]
        where = printable(".".join(parts[:-1] if parts and parts[-1] in _TYPES else parts))
        message = printable(str(error["msg"]).rstrip("."))
        if where in found:
            message = f"{found[where].message}, or: {message}"
        received = "nothing" if error["type"] == "missing" else _shortened(error.get("input"))
        found[where] = Problem(where=where, message=message, received=received)
    return list(found.values())


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    told = str(error.detail)
    if error.status_code == 404 and told == "Not Found":
        told = f"{request.method} {request.url.path}: no such path. The interface is described at /docs."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        told = f"{request.url.path} does not answer {request.method}. It answers {allowed}; see /docs."
    return error_answer(error.status_code, told, headers=error.headers)


async def _known(_: Request, error: ClickmillError) -> JSONResponse:
    status = getattr(error, "status", 400 if isinstance(error, InputError) else 503)
    headers = None
    if (retry := getattr(error, "retry_after_s", None)) is not None:
        headers = {"retry-after": str(math.ceil(retry))}
    return error_answer(status, str(error) or f"{type(error).__name__}.", headers=headers)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises the exception again after this answer, and the server logs it with its traceback.
    told = (
        f"a defect of the gateway ({type(error).__name__}) at {request.method} {request.url.path}: its log says more."
    )
    return error_answer(500, told)
