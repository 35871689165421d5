"""The run report: one HTML page that needs nothing else, and the same figures as JSON.

`build_report` writes `report.html` and `report.json`. The page holds its styles, its script and Plotly, loads nothing
(its content security policy forbids it) and opens from disk, offline. Without JavaScript, the tables still say it all.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.report import format as report_format
from evaluation.report.data import ReportData
from evaluation.report.figures import ORPHAN, all_figures
from evaluation.report.quality_figures import all_scores
from features import storage

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
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["fmt"] = report_format
    figures = all_figures(data)
    plain = [asdict(figure) for section in figures.values() for figure in section]
    # The scripts are allowed by hash, so that no script that came in with the data could ever run.
    scripts = [get_plotlyjs(), _asset("report.js")]
    return environment.get_template("report.html.j2").render(
        data=data,
        result=data.evaluation,
        counts=data.counts,
        figures=figures,
        scores=all_scores(data.evaluation) if data.evaluation else [],
        orphan=ORPHAN.value,
        style=_asset("report.css"),
        scripts=scripts,
        script_hashes=[_csp_hash(script) for script in scripts],
        figures_json=plain,
        report_json=data.model_dump(mode="json"),
    )


def _asset(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    # HTML parsing turns CR LF and CR into LF before the hash is taken.
    text = script.replace("\r\n", "\n").replace("\r", "\n")
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
