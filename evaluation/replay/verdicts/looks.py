"""The ledger of looks: a fixed-sample interval holds for one look, and is refused a second."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import ValidationError

from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.interval import Interval
from evaluation.replay.sums import UserSums
from features import storage
from features.config import Strict
from features.errors import InputError


class LookError(InputError):
    """A look that the plan of the comparison does not have."""


class Look(Strict):
    """One look at a log.

    Attributes:
      digest: of the sums, by which the same log is known again.
      rows: impressions.
      users: different ones.
    """

    digest: str
    rows: int
    users: int

    @classmethod
    def of(cls, sums: UserSums) -> Look:
        """The look at these sums; equal logs have equal digests, whatever their order and their parts."""
        found = hashlib.sha256(sums.users.tobytes())
        for name in sorted(
            ("rows", "r", *(f"{policy}/{column}" for policy in sums.policies for column in ("w", "wr")))
        ):
            found.update(name.encode())
            found.update(sums.by_user.columns[name].tobytes())
        return cls(digest=found.hexdigest(), rows=int(sums.by_user.total("rows")), users=len(sums.users))


class Looks(Strict):
    """The looks at one comparison, and the plan that was made before the first.

    Attributes:
      interval: name of the tier.
      level: of it.
      planned: units of the last look, of a confidence sequence.
      looks: in order.
    """

    kind: Literal["looks"] = "looks"
    interval: str
    level: float
    planned: float | None = None
    looks: tuple[Look, ...] = ()

    @classmethod
    def plan(cls, interval: Interval) -> Looks:
        """The ledger of a comparison by this interval, without a look."""
        planned = interval.planned if isinstance(interval, ConfidenceSequence) else None
        return cls(interval=interval.name, level=interval.level, planned=planned)

    def take(self, sums: UserSums, interval: Interval) -> Looks:
        """Counts a look; call it before a comparison is shown to anybody, and keep what it returns.

        The same log again is the same look, with whatever estimator.

        Returns:
          The ledger with this look.

        Raises:
          LookError: for a second look of an interval that holds for one, or an interval other than the planned.
        """
        return self.count(Look.of(sums), interval)

    def count(self, look: Look, interval: Interval) -> Looks:
        """Counts a look at whatever was looked at; as `take`."""
        plan = Looks.plan(interval)
        if (plan.interval, plan.level, plan.planned) != (self.interval, self.level, self.planned):
            raise LookError(
                f"this comparison was begun with {_shown(self)} and cannot go on with {_shown(plan)}: "
                "an interval that is chosen after a look does not hold its level."
            )
        if look in self.looks:
            return self
        if self.looks and not interval.repeatable:
            raise LookError(
                f"a `{interval.name}` interval holds for one look, and one was taken at {self.looks[0].rows} rows. "
                "Begin a comparison on rows that nobody has looked at, with a `sequence` to look at every day."
            )
        return self.model_copy(update={"looks": (*self.looks, look)})

    def write(self, path: storage.AnyPath) -> None:
        """Keeps the ledger as JSON, whole or not at all."""
        storage.write_text(path, self.model_dump_json(indent=2) + "\n", durable=True)


def read_looks(path: storage.AnyPath, interval: Interval) -> Looks:
    """Reads a ledger; a file that is not there is that of a comparison without a look, by `interval`.

    Raises:
      InputError: for a file that is not a ledger.
    """
    if not storage.exists(path):
        return Looks.plan(interval)
    try:
        return Looks.model_validate_json(storage.read_text(path))
    except ValidationError as error:
        raise InputError(f"{path} is not a ledger of looks: {error.errors()[0]['msg']}.") from None


def _shown(plan: Looks) -> str:
    planned = f" for {plan.planned:g} units" if plan.planned else ""
    return f"`{plan.interval}` at {plan.level:g}{planned}"
