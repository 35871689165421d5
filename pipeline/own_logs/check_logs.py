"""What a run would lose of a log, and why: LogIngest itself, run over a sample or the whole, and nothing kept of it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator

from features import storage
from features.arrow import read_parquet
from features.beam_runner import make_pipeline
from features.ingest.config import IngestConfig
from features.ingest.counts import IngestCounts, TableCounts
from features.ingest.ingest_logs import IngestLogs
from features.ingest.judge import judge_log
from features.log_contract import Reason, UntrainableLogError
from features.spec import FeatureSpec

#: What to do about the rows of each reason.
FIXES = {
    Reason.UNPARSABLE_ROW: "mend the writer: quote values that hold the delimiter, double quotes inside quotes",
    Reason.NULL_REQUEST_ID: "log the request's id, or name the columns that make one: `request_columns`",
    Reason.BAD_TIMESTAMP: "log UTC milliseconds, or set the table's `timestamp_unit` or the spec's `timezone`",
    Reason.NULL_USER_ID: "log a user for each row; give guests an id of their session",
    Reason.NULL_ITEM_ID: "log the item of each row",
    Reason.BAD_POSITION: "log the slot, from 0, of every row of a request or of none",
    Reason.BAD_PROPENSITY: "log the probability of showing the item, above 0 and at most 1; null where not known",
    Reason.BAD_LABEL: "log labels in [0, 1], or set the label's `at_least`",
    Reason.BAD_SPLIT: "write train, eval or test in the split column",
    Reason.BAD_VALUE: "mend the writer, or change the feature's `dtype` in the spec",
    Reason.IN_THE_FUTURE: "mend the clocks of the writers, or set `end_of_log`",
    Reason.REQUEST_CONFLICT: "give each request an id of its own, never used again",
    Reason.UNKNOWN_REQUEST: "read the impressions of the same days as the clicks",
    Reason.UNKNOWN_IMPRESSION: "log every item that was shown, in impressions",
    Reason.CLICK_BEFORE_IMPRESSION: "compare the clocks of the two writers",
}

#: Reasons that a sample cannot tell: the row that would match may not be in it.
NEED_THE_WHOLE = frozenset(
    {
        *("unknown_request", "unknown_impression", "unknown items", "unknown users", "immature", "late", "duplicates"),
        *("in_the_future", "click_before_impression"),
    }
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """Rows of a table that a run would not keep, or not as they are.

    Attributes:
      table: of the log.
      reason: a dead letter's reason, or what else becomes of the rows.
      rows: how many.
      share: of the table's rows.
      example: what is wrong with one of them; empty: nothing to show.
      where: its file and line.
      fix: what to do.
    """

    table: str
    reason: str
    rows: int
    share: float
    example: str = ""
    where: str = ""
    fix: str = ""


@dataclasses.dataclass(frozen=True)
class LogCheck:
    """What `check_logs` found.

    Attributes:
      counts: the account of the rows that were read.
      findings: most rows first, by table.
      verdict: why a run would stop after LogIngest; None: it would go on.
      whole: whether every row was read.
    """

    counts: IngestCounts
    findings: tuple[Finding, ...]
    verdict: str | None
    whole: bool


def check_logs(config: IngestConfig, spec: FeatureSpec, rows: int | None = None) -> LogCheck:
    """Ingests a log, or a sample of it, into a scratch folder and says what became of its rows.

    Args:
      config: as for a run.
      spec: the feature spec.
      rows: of each table, about how many are read at most, from the start of each of its pieces; None: all. A sample
        cannot tell what needs both tables (clicks without impression), which is then left out.

    Raises:
      LogContractError: if the log cannot be read at all.
    """
    with tempfile.TemporaryDirectory(prefix="clickmill-") as folder:
        places = [storage.join(folder, name) for name in ("examples", "behaviors", "dead_letters")]
        with make_pipeline() as root:
            _ = root | IngestLogs(config, spec, *places, sample_rows=rows)
        counts = IngestCounts.load(places[0])
        judged = _without_the_rest(counts) if counts.sampled_units else counts
        verdict = None
        try:
            judge_log(config, spec, judged, places[0], places[2])
        except UntrainableLogError as error:
            verdict = str(error)
        examples = _examples(places[2])
    findings = [
        finding
        for table, account in counts.tables.items()
        for finding in _findings(table, account, counts, examples)
        if not counts.sampled_units or finding.reason not in NEED_THE_WHOLE
    ]
    return LogCheck(counts, tuple(findings), verdict, not counts.sampled_units)


def _without_the_rest(counts: IngestCounts) -> IngestCounts:
    """The counts of a sample, as if the rows that are not in it had everything that its own rows miss."""
    tables = {}
    for name, table in counts.tables.items():
        reasons = {reason: rows for reason, rows in table.reasons.items() if reason not in NEED_THE_WHOLE}
        bad = sum(reasons.values())
        changed = {"reasons": reasons, "dead_letters": bad, "kept": table.rows_in - bad - table.ignored}
        tables[name] = table.model_copy(update=changed | {"duplicates": 0, "immature": 0, "late": 0})
    some = {name: {split: max(n, 1) for split, n in splits.items()} for name, splits in counts.positives.items()}
    requests = {split: max(n, 1) for split, n in counts.requests.items()}
    update = {"tables": tables, "positives": some, "requests": requests, "unknown_items": 0, "unknown_users": 0}
    return counts.model_copy(update=update)


def _examples(folder: str) -> dict[tuple[str, str], tuple[str, str]]:
    """The first dead letter of each table and reason: its detail, its file and line."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for file in storage.entries(folder, "dead_letters-*.parquet"):
        for row in read_parquet(file).to_pylist():
            key = (row["table"], row["reason"])
            if key not in found:
                line = "" if row["line"] is None else f":{row['line']}"
                found[key] = (row["detail"], f"{row['source']}{line}")
    return found


def _findings(
    table: str, account: TableCounts, counts: IngestCounts, examples: dict[tuple[str, str], tuple[str, str]]
) -> Iterator[Finding]:
    def of(reason: str, rows: int, fix: str, example: str = "", where: str = "", of_rows: int = 0) -> Iterator[Finding]:
        if rows:
            yield Finding(table, reason, rows, rows / max(of_rows or account.rows_in, 1), example, where, fix)

    for reason, rows in sorted(account.reasons.items(), key=lambda each: -each[1]):
        yield from of(reason, rows, FIXES[Reason(reason)], *examples.get((table, reason), ("", "")))
    yield from of("duplicates", account.duplicates, "look whether a job has written its output twice")
    yield from of("immature", account.immature, "wait a window longer, or set `label_maturity: false`")
    yield from of("late", account.late, "lengthen `attribution_window_hours` if these clicks should count")
    yield from of("ignored", account.ignored, "name the labels that should be read: `labels`")
    if table == "items":
        shown = sum(counts.impressions.values())
        fix = "write every shown item's row; compare how the two tables write ids"
        yield from of("unknown items", counts.unknown_items, fix, of_rows=shown)
    if table == "users":
        requests = sum(counts.requests.values())
        yield from of("unknown users", counts.unknown_users, "compare how the two tables write ids", of_rows=requests)
