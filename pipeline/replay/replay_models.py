"""Replays a run's models on the logs that the run held out, and says whether they may be released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.cascade.config import CascadeSection
from evaluation.replay.verdicts.replay_report import ReplayReport
from evaluation.report.replay.pages import write_replay_page
from evaluation.results import GateResult
from features import storage
from pipeline.replay.config import ReplaySection

if TYPE_CHECKING:
    from serving.offline.replay.sources import PolicySource

REPORT_FILE = "replay.json"
PAGE_FILE = "replay.html"


@dataclass(frozen=True)
class TrainedModels:
    """What is replayed.

    Attributes:
      ranker: the exported fine ranker.
      two_tower, coarse: the other stages; without a two-tower the ranker alone.
      items: the catalogue's Parquet file.
      cascade: how many items pass each stage.
    """

    ranker: str
    two_tower: str | None = None
    coarse: str | None = None
    items: str | None = None
    cascade: CascadeSection | None = None

    def source(self, policy: str) -> PolicySource:
        """The policy that they make by `policy` (`evaluation.replay.policies.registry`)."""
        from evaluation.replay.policies.registry import make_policy
        from serving.cascade import Cascade
        from serving.offline.replay.scorers import CascadeScorer, RankerScorer
        from serving.offline.replay.sources import PolicySource

        if self.two_tower is None:
            return PolicySource("this run's ranker", policy=make_policy(policy), scorer=RankerScorer(self.ranker))
        stages = (self.two_tower, self.ranker, self.items)
        cascade = Cascade.load(*stages, coarse=self.coarse, config=self.cascade)
        return PolicySource("this run's cascade", policy=make_policy(policy), scorer=CascadeScorer(cascade))


@dataclass(frozen=True)
class ReplayedModels:
    """What a replay says of a run's models.

    Attributes:
      report: what was found.
      refuse: verdicts with which there is no release.
    """

    report: ReplayReport
    refuse: tuple[str, ...]

    @property
    def blessed(self) -> bool:
        """Whether they may be released."""
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


def replay_models(
    section: ReplaySection,
    models: TrainedModels,
    examples_dir: str,
    behaviors_dir: str,
    split: str,
    root: storage.AnyPath,
) -> ReplayedModels:
    """Compares a run's models with the baseline.

    Args:
      section: what is compared.
      models: of the run.
      examples_dir, behaviors_dir: of LogIngest.
      split: which requests.
      root: the serving root of releases.

    Raises:
      InputError: for logs without propensities, and what else `replay_logs` refuses.
    """
    from evaluation.replay.log_table import LogColumns
    from serving.offline.replay.replay_logs import ReplayPolicies, parse_reward, replay_logs
    from serving.saved.saved_model import read_spec

    policies = ReplayPolicies(
        models.source(section.policy), section.baseline, section.policy, section.baseline_policy, root
    )
    columns = LogColumns(
        policies={},
        reward=parse_reward(section.reward or read_spec(models.ranker).label),
        propensity_kind=section.propensities,
        slots=section.slots,
        strata={name: name for name in section.by},
    )
    read = {"split": split, "behaviors": behaviors_dir, "exclude": section.exclude}
    return ReplayedModels(replay_logs([examples_dir], policies, columns, section.plan, **read), section.refuse)
