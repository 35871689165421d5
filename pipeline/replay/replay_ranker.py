"""Replays a run's fine ranker on the logs that the run held out, and says whether it may be released."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.replay.verdicts.replay_report import ReplayReport
from evaluation.report.replay.pages import write_replay_page
from evaluation.results import GateResult
from features import storage
from pipeline.replay.config import ReplaySection

REPORT_FILE = "replay.json"
PAGE_FILE = "replay.html"


@dataclass(frozen=True)
class ReplayedRanker:
    """What a replay says of a ranker.

    Attributes:
      report: what was found.
      refuse: verdicts with which there is no release.
    """

    report: ReplayReport
    refuse: tuple[str, ...]

    @property
    def blessed(self) -> bool:
        """Whether the ranker may be released."""
        return self.report.outcome not in self.refuse

    @property
    def failed_gates(self) -> tuple[GateResult, ...]:
        """The gate, where it was not passed."""
        if self.blessed:
            return ()
        found, main = self.report, self.report.comparisons[0]
        ends = f" [{main.difference.low:.4g}, {main.difference.high:.4g}]" if main.difference.low is not None else ""
        why = " ".join(found.reasons) or f"{main.title} finds a difference of {main.difference.value:.4g}{ends}."
        reason = f"The replay's verdict is {found.outcome.replace('_', ' ')}: {why}"
        return (GateResult(name="replay", value=main.difference.value, passed=False, reason=reason),)

    def save(self, folder: storage.AnyPath) -> None:
        """Writes `replay.json` and `replay.html`."""
        self.report.write(storage.join(folder, REPORT_FILE))
        write_replay_page(self.report, storage.join(folder, PAGE_FILE))


def replay_ranker(
    section: ReplaySection,
    model_dir: storage.AnyPath,
    examples_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    split: str,
    root: storage.AnyPath,
) -> ReplayedRanker:
    """Compares a ranker with the baseline.

    Args:
      section: what is compared.
      model_dir: the exported ranker.
      examples_dir, behaviors_dir: of LogIngest.
      split: which requests.
      root: the serving root of releases.

    Raises:
      InputError: for logs without propensities, and what else `replay_logs` refuses.
    """
    from evaluation.replay.log_table import LogColumns
    from serving.offline.replay.replay_logs import ReplayPolicies, parse_reward, replay_logs
    from serving.saved.saved_model import read_spec

    policies = ReplayPolicies(f"model:{model_dir}", section.baseline, section.policy, section.baseline_policy, root)
    columns = LogColumns(
        policies={},
        reward=parse_reward(section.reward or read_spec(model_dir).label),
        propensity_kind=section.propensities,
        slots=section.slots,
        strata={name: name for name in section.by},
    )
    found = replay_logs(
        [str(examples_dir)],
        policies,
        columns,
        section.plan,
        split=split,
        behaviors=behaviors_dir,
        exclude=section.exclude,
    )
    return ReplayedRanker(_named(found, section), section.refuse)


def _named(report: ReplayReport, section: ReplaySection) -> ReplayReport:
    """The report with the candidate called what it is to a reader, not by the folder of an artifact."""
    described = report.plan.described | {report.plan.candidate: f"the ranker of this run by {section.policy}"}
    return report.model_copy(update={"plan": report.plan.model_copy(update={"described": described})})
