"""The page of a replay and that of an experiment: HTML that needs nothing else, drawn from the report alone."""

from __future__ import annotations

from typing import Any

from evaluation.replay.experiment.experiment_plan import ExperimentReport
from evaluation.replay.verdicts.replay_report import ReplayReport
from evaluation.report.page import environment, scripted
from evaluation.report.replay import experiment_figures, replay_figures
from features import storage


def write_replay_page(report: ReplayReport, path: storage.AnyPath) -> None:
    """Writes the page of a replay, whole or not at all; the JSON of the report is another file's.

    Args:
      report: what the replay found.
      path: of the page.
    """
    storage.write_text(path, _render("replay/replay_page.html.j2", report=report, figures=figures_of(report)))


def write_experiment_page(report: ExperimentReport, path: storage.AnyPath) -> None:
    """Writes the page of an experiment, whole or not at all.

    Args:
      report: what the experiment's logs say.
      path: of the page.
    """
    figures = {
        "effects": experiment_figures.effects(report.reading),
        "slices": [figure for each in report.slices for figure in experiment_figures.by_slice(each)],
        "days": [figure for each in report.days if (figure := experiment_figures.by_day(each)) is not None],
    }
    extra = {"share": experiment_figures.share}
    storage.write_text(path, _render("replay/experiment_page.html.j2", report=report, figures=figures, **extra))


def figures_of(report: ReplayReport) -> dict[str, Any]:
    """The figures of a replay by what they show; the run report takes the first."""
    return {
        "forests": replay_figures.forests(report.comparisons),
        "weights": [replay_figures.histogram(each) for each in report.weights],
        "effective": replay_figures.effective(report.strata),
        "slots": replay_figures.mean_weights(report.strata),
    }


def _render(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**scripted(), **values)
