"""What was typed into the page's forms, and the request that it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from features.errors import ClickmillError, InputError
from serving.gateway.page.words import parse_request
from serving.gateway.schema import MAX_ITEMS, RankRequest, RecommendRequest

DEFAULT_K = 10


class PageError(ClickmillError):
    """Something that the page shows in place of an answer.

    Attributes:
      field: name of the form's field that it belongs to; '' where it belongs to none.
      status: of HTTP.
    """

    def __init__(self, field: str, message: str, status: int = 400):
        super().__init__(message)
        self.field, self.status = field, status


@dataclass(frozen=True)
class Typed:
    """The fields as they were typed, so that a mistake can be mended where it stands.

    Attributes:
      user, k: of the form of a user.
      release: id or label of the release to ask; '': the one that is served.
      beside: id or label of the release to compare with; '': none.
      text: the pasted JSON.
    """

    user: str = ""
    k: str = str(DEFAULT_K)
    release: str = ""
    beside: str = ""
    text: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Typed:
        """Reads the fields of a form; others are left alone."""
        known = {name: fields[name] for name in ("user", "k", "release", "beside") if name in fields}
        typed = cls(**{name: value.strip() for name, value in known.items()})
        return replace(typed, text=fields.get("request", ""))


def request_of_user(typed: Typed, user: str | int) -> RecommendRequest:
    """Returns the request of the form of a user.

    Args:
      typed: the form.
      user: the id that was typed, of the type that the logs have.

    Raises:
      PageError: if `k` or the user's name cannot be.
    """
    try:
        k = int(typed.k or DEFAULT_K)
    except ValueError:
        k = 0
    if not 1 <= k <= MAX_ITEMS:
        raise PageError("k", f"The number of items is a whole number from 1 to {MAX_ITEMS:,}. Received: {typed.k}")
    if len(typed.user) > 1000:
        raise PageError("user", f"A user’s id has 1,000 characters at most. Received: {len(typed.user):,} characters.")
    return RecommendRequest(user=user, k=k, release=typed.release or None)


def request_of_text(text: str) -> RecommendRequest | RankRequest:
    """Returns the request that was pasted.

    Raises:
      PageError: if it is no JSON, or no request; the message says where, what stands there and what should.
    """
    if not text.strip():
        raise PageError("request", 'Nothing was pasted. A request looks like {"user": "u7", "k": 10}.')
    try:
        return parse_request(json.loads(text, parse_constant=_no_number))
    except json.JSONDecodeError as error:
        raise PageError("request", _of_syntax(text, error)) from error
    except RecursionError as error:
        raise PageError("request", "The request is nested too deep to be one.") from error
    except InputError as error:
        raise PageError("request", str(error)) from error
    except ValueError as error:
        raise PageError("request", f"The text is not JSON: {error}.") from error


def as_json(request: RecommendRequest) -> str:
    """Returns a request as a person would write it: without what is not said."""
    return json.dumps(_said(request), ensure_ascii=False, indent=2)


def path_of(request: RecommendRequest) -> str:
    """Returns the path of the interface that answers this kind of request."""
    return "/v1/rank" if isinstance(request, RankRequest) else "/v1/recommend"


def _said(request: RecommendRequest) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_unset=True, exclude_none=True)


def _no_number(text: str) -> NoReturn:
    raise InputError(f"`{text}` is no JSON: leave the key out, or write null.")


def _of_syntax(text: str, error: json.JSONDecodeError) -> str:
    line = text.splitlines()[error.lineno - 1] if error.lineno <= len(text.splitlines()) else ""
    start = max(0, error.colno - 31)
    there = line[start : error.colno + 29].strip()
    shown = f" There: {there}" if there else " There the text ends."
    what = f"{error.msg[:1].lower()}{error.msg[1:]}"
    return f"The text is not JSON: line {error.lineno}, column {error.colno}: {what}.{shown}"
