"""What became of the impressions of each day: `spans.json` beside the examples of a window."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from pydantic import Field, TypeAdapter

from features import storage
from features.config import Strict
from features.ingest.counts import IngestCounts, RowAccountError
from features.ingest.spans.config import DAY
from features.storage import AnyPath

SPANS_FILE = "spans.json"


class SpanAccount(Strict):
    """The impressions of a span. Over spans that follow one another, without a gap,

        held_back = held_back of the day before + read - kept - duplicates - dead_letters - late - withdrawn

    Attributes:
      span: the day.
      key: of its work: what it was made of. Equal keys stand for equal bytes.
      read: impressions that came on this day.
      kept: that belong to the span's examples.
      carried_in: of these, that came on days before, which held them back.
      held_back: that wait for later spans, whatever day they came.
      duplicates, dead_letters, late: of the day's, that repeat another, were refused, or came when their span was over.
      splits: of `kept`, in each split of the window; empty for a span alone.
    """

    span: datetime.date
    key: str
    read: int = 0
    kept: int = 0
    carried_in: int = 0
    held_back: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    late: int = 0
    splits: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, span: datetime.date, key: str, counts: IngestCounts) -> SpanAccount:
        """Returns the account of a span from the counts of its ingestion."""
        found = counts.tables["impressions"]
        return cls(
            span=span,
            key=key,
            read=found.own_rows,
            kept=found.kept,
            carried_in=found.carried_in,
            held_back=found.immature,
            duplicates=found.duplicates,
            dead_letters=found.dead_letters,
            late=found.late,
        )


def withdrawn(accounts: Sequence[SpanAccount]) -> dict[datetime.date, int]:
    """Returns how many impressions each span held back and then found to be a duplicate or a conflict, but the first.

    Args:
      accounts: of spans that follow one another, without a gap.

    Raises:
      RowAccountError: if the accounts do not add up: an impression was lost, or trained on twice.
    """
    found = {}
    for before, after in zip(accounts, accounts[1:], strict=False):
        if after.span != before.span + DAY:
            raise RowAccountError(f"no account of the days between {before.span} and {after.span}.")
        left = after.kept + after.duplicates + after.dead_letters + after.late + after.held_back
        found[after.span] = before.held_back + after.read - left
        if found[after.span] < 0:
            raise RowAccountError(
                f"the span {after.span} accounts for {left} impressions, and read {after.read} beside the "
                f"{before.held_back} that {before.span} held back."
            )
    return found


def save_accounts(accounts: Sequence[SpanAccount], directory: AnyPath) -> None:
    """Writes `spans.json`."""
    text = TypeAdapter(list[SpanAccount]).dump_json(list(accounts), indent=2).decode()
    storage.write_text(storage.join(directory, SPANS_FILE), text + "\n")


def load_accounts(directory: AnyPath) -> tuple[SpanAccount, ...]:
    """Reads `spans.json` of the examples in `directory`: of each day of their window, the oldest first."""
    text = storage.read_text(storage.join(directory, SPANS_FILE))
    return tuple(TypeAdapter(list[SpanAccount]).validate_json(text))


def with_splits(account: SpanAccount, impressions: Mapping[str, int]) -> SpanAccount:
    """Returns the account with the impressions of each split of a window.

    Raises:
      RowAccountError: if these are not all that the span kept.
    """
    if sum(impressions.values()) != account.kept:
        raise RowAccountError(
            f"the span {account.span} kept {account.kept} impressions, the window holds {dict(impressions)}."
        )
    return account.model_copy(update={"splits": dict(impressions)})
