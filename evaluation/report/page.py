"""The run report: one HTML page that needs nothing else, and the same figures as JSON.

`build_report` writes `report.html` and `report.json`. The page holds its styles, its figures as SVG and a small script,
loads nothing (its content security policy forbids it) and opens from disk, offline. Without JavaScript all of it is
there; the script only shows at once what a browser shows of a figure's points after a second.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.report import format as report_format
from evaluation.report.cascade_figures import list_rows
from evaluation.report.data import ReportData
from evaluation.report.figures import ORPHAN, all_figures, learning, trainings
from evaluation.report.quality_figures import all_scores
from evaluation.report.replay.replay_figures import forests
from evaluation.report.svg import draw
from evaluation.report.verdicts import stage_finding
from features import storage

if TYPE_CHECKING:
    from jinja2 import Environment

HTML_FILE = "report.html"
JSON_FILE = "report.json"


@dataclass(frozen=True)
class ReportPaths:
    """Where a report lies: the page and its figures."""

    html: str
    json: str


def build_report(data: ReportData, out_dir: storage.AnyPath) -> ReportPaths:
    """Writes `report.html` and `report.json` into `out_dir`, which is made if it is missing; each appears whole.

    Args:
      data: the figures, e.g. from `collect`. Its `absent` is filled in.
      out_dir: the directory.

    Returns:
      The two paths.
    """
    data = data.with_absences()
    paths = ReportPaths(storage.join(out_dir, HTML_FILE), storage.join(out_dir, JSON_FILE))
    # Render first: a report that cannot be drawn leaves the files of the run before as they are.
    page = render(data)
    storage.write_text(paths.json, data.model_dump_json(indent=2) + "\n")
    storage.write_text(paths.html, page)
    return paths


def render(data: ReportData) -> str:
    """The page, as text."""
    finding, warns = stage_finding(data.stages) if data.stages else ("", False)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **scripted(),
            data=data,
            learning=learning,
            result=data.evaluation,
            counts=data.counts,
            figures=all_figures(data),
            trainings=trainings(data),
            scores=all_scores(data.evaluation) if data.evaluation else [],
            forests=forests(data.replay.comparisons) if data.replay else [],
            lists=list_rows(data.cascade) if data.cascade else [],
            stage_finding=finding,
            stage_warns=warns,
            orphan=ORPHAN.value,
            report_json=data.model_dump(mode="json"),
        )
    )


def environment() -> Environment:
    """The templates of the pages, with what all of them call."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"fmt": report_format, "draw": draw}
    return found


def scripted() -> dict[str, str]:
    """The style and the script of a page; the script is allowed by its hash, so that none of the data's ever runs."""
    script = _asset("report.js")
    return {"style": base_style() + _asset("report.css"), "script": script, "script_hash": _csp_hash(script)}


def base_style() -> str:
    """Returns the style sheet that the pages of the project share; it names its colours, and loads nothing."""
    return _asset("base.css")


def _asset(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    # HTML parsing turns CR LF and CR into LF before the hash is taken.
    text = script.replace("\r\n", "\n").replace("\r", "\n")
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
