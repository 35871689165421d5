"""The page as HTML, of what it shows."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.report import format as report_format
from evaluation.report.page import base_style
from evaluation.report.svg import draw
from serving.gateway.page.around import Around, offered
from serving.gateway.page.asked import PageError, Typed, as_json, path_of
from serving.gateway.page.side_by_side import SideBySide
from serving.gateway.page.view import AnswerView
from serving.gateway.schema import RecommendRequest

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).with_name("templates")
_OK = 200


@dataclass(frozen=True)
class Shown:
    """Everything that one page shows.

    Attributes:
      typed: the forms.
      around: releases and users.
      address: of the gateway, as the browser reached it.
      pasted: whether the request was pasted.
      request: that was answered; None: none was.
      answer: to it.
      beside: the same request under another release.
      error: what went wrong.
    """

    typed: Typed
    around: Around
    address: str
    pasted: bool
    request: RecommendRequest | None = None
    answer: AnswerView | None = None
    beside: SideBySide | None = None
    error: PageError | None = None

    @property
    def status(self) -> int:
        """Of HTTP."""
        return _OK if self.error is None else self.error.status

    def failed(self, error: PageError) -> Shown:
        """The page with what went wrong."""
        return replace(self, error=error)

    def with_answer(self, request: RecommendRequest, answer: AnswerView) -> Shown:
        """The page with an answer."""
        return replace(self, request=request, answer=answer)

    def with_beside(self, beside: SideBySide) -> Shown:
        """The page with two answers."""
        return replace(self, beside=beside)


def page_html(shown: Shown) -> str:
    """Returns the page."""
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            shown=shown,
            typed=shown.typed,
            around=shown.around,
            error=shown.error,
            view=shown.answer,
            beside=shown.beside,
            offered=offered(shown.around),
            pasted_text=_pasted(shown),
            sent=None if shown.request is None else _curl(shown.request),
        )
    )


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The only text that is not escaped is the project's own.
    style = base_style() + _FOLDER.joinpath("page.css").read_text(encoding="utf-8")
    environment.globals |= {"fmt": report_format, "draw": draw, "style": style}
    return environment


def _pasted(shown: Shown) -> str:
    """What stands in the field for JSON: what was pasted, or the request that is shown, or an example."""
    if shown.pasted:
        return shown.typed.text
    if shown.request is not None:
        return as_json(shown.request)
    user: Any = next(iter(shown.around.users), "u7")
    return json.dumps({"user": user, "k": 10}, ensure_ascii=False, indent=2)


def _curl(request: RecommendRequest) -> dict[str, str]:
    """The request as a command: path and JSON, quoted for a shell."""
    text = as_json(request)
    quoted = text.replace("'", "'\\''")
    return {"path": path_of(request), "json": text, "quoted": quoted}
