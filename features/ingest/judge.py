"""Whether an ingested log can be trained on: what LogIngest fails by, and what it warns of.

A Trainer would fail a minute later, without a word on why; or train on half a log, which is worse.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.arrow import one_chunk, read_parquet
from features.config import nearest
from features.ingest.config import IngestConfig
from features.ingest.counts import IngestCounts, TableCounts
from features.items.catalogue import has_catalogue, read_catalogue
from features.log_contract import BadRowsError, Reason, UntrainableLogError
from features.spec import FeatureSpec
from features.storage import AnyPath

_NAMED = 3
"""Of files and of ids, how many a message names."""


def judge_log(
    config: IngestConfig, spec: FeatureSpec, counts: IngestCounts, examples_dir: AnyPath, dead_letters_dir: AnyPath
) -> None:
    """Passes a log that can be trained on.

    Args:
      config: of the ingestion; its `limits` are judged.
      spec: the features and the label.
      counts: of the ingestion.
      examples_dir: what was written: for examples of ids.
      dead_letters_dir: the dead letters: for examples of bad rows.

    Raises:
      BadRowsError: if a table's share of dead letters is above `max_bad_row_fraction`.
      UntrainableLogError: for every other reason. Either message holds all that is wrong.
    """
    bad_rows = list(_bad_rows(config, counts))
    nothing = _nothing_to_learn(config, spec, counts)
    _refuse(bad_rows, [*nothing, *_faults(config, spec, counts, examples_dir, dead_letters_dir)])


def judge_window(
    config: IngestConfig,
    spec: FeatureSpec,
    counts: IngestCounts,
    newest: IngestCounts,
    examples_dir: AnyPath,
    dead_letters_dir: AnyPath,
) -> None:
    """Passes a window of days that can be trained on: `judge_log`, of a log by day.

    The rows of its newest day are judged alone: among many good days, no share would show a bad one.

    Args:
      config, spec, examples_dir, dead_letters_dir: as of `judge_log`.
      counts: of the window.
      newest: of its newest span.

    Raises:
      BadRowsError, UntrainableLogError: as `judge_log`.
    """
    nothing = _nothing_to_learn(config, spec, counts)
    _refuse(list(_bad_rows(config, newest)), [*nothing, *_faults(config, spec, newest, examples_dir, dead_letters_dir)])


def _faults(
    config: IngestConfig, spec: FeatureSpec, counts: IngestCounts, examples_dir: AnyPath, dead_letters_dir: AnyPath
) -> Iterator[str]:
    yield from _bad_files(config, counts, dead_letters_dir)
    yield from _repeated_or_left_out(config, counts)
    yield from _unknown(config, counts, examples_dir)
    yield from _missing(config, spec, counts)


def _refuse(bad_rows: list[str], others: list[str]) -> None:
    faults = [*bad_rows, *others]
    if not faults:
        return
    kind = BadRowsError if bad_rows else UntrainableLogError
    if len(faults) == 1:
        raise kind(faults[0])
    raise kind(
        "\n".join([f"the log cannot be trained on, for {len(faults)} reasons:", *(f"- {each}" for each in faults)])
    )


def warnings_of(config: IngestConfig, counts: IngestCounts) -> tuple[str, ...]:
    """Returns what does not fail a run and should be looked at, a sentence each."""
    return tuple(_warnings(config, counts))


def _warnings(config: IngestConfig, counts: IngestCounts) -> Iterator[str]:
    for name, table in counts.tables.items():
        if table.passed_over:
            yield f"`{name}`: {len(table.passed_over)} files were passed over: {_some(table.passed_over)}."
        if table.differing_files:
            yield (
                f"`{name}`: {len(table.differing_files)} files have other columns than the rest: "
                f"{_some(table.differing_files)}. What a file lacks is missing in its rows."
            )
        if table.bad_files and config.limits.bad_files:
            yield f"`{name}`: no row of {_some(tuple(table.bad_files))} is good."
        if table.differing:
            yield (
                f"`{name}`: {table.differing:,} of {table.duplicates:,} duplicates differ from the row that stays, in "
                "more than their labels."
            )
        future = table.reasons.get(Reason.IN_THE_FUTURE, 0)
        if future:
            yield f"`{name}`: {future:,} rows are dated beyond the end of the log ({counts.end_of_log})."
    for split in counts.requests:
        if split == "test" and not counts.requests[split] and config.split.by == "column":
            yield f"no row of `{config.split.column}` says `test`: there is nothing that models could be judged by."
        if split == "eval" and counts.requests[split] and not any(each[split] for each in counts.positives.values()):
            yield "the split `eval` has no positive of any label: early stopping has nothing to go by."


def _bad_rows(config: IngestConfig, counts: IngestCounts) -> Iterator[str]:
    for name, table in counts.tables.items():
        if table.bad_fraction > config.max_bad_row_fraction:
            yield (
                f"{table.dead_letters} of {table.own_rows} rows of `{name}` are bad ({table.bad_fraction:.2%}; "
                f"`max_bad_row_fraction`={config.max_bad_row_fraction}). {_reasons(table)}. "
                "The dead letters hold each of them."
            )


def _bad_files(config: IngestConfig, counts: IngestCounts, dead_letters_dir: AnyPath) -> Iterator[str]:
    if config.limits.bad_files:
        return
    for name, table in counts.tables.items():
        for path, rows in list(table.bad_files.items())[:_NAMED]:
            letter = _letter_of(dead_letters_dir, name, path)
            where = "" if letter.get("line") is None else f" {letter['line']}"
            yield (
                f"`{name}`: none of the {rows:,} rows of {path} is good. Row{where} ({letter.get('reason')}): "
                f"{letter.get('detail')} {letter.get('row')} Mend the file or move it away; if such files may be, set "
                "`limits.bad_files: true`."
            )
        if len(table.bad_files) > _NAMED:
            yield f"`{name}`: {len(table.bad_files) - _NAMED} further files have no good row either."


def _nothing_to_learn(config: IngestConfig, spec: FeatureSpec, counts: IngestCounts) -> Iterator[str]:
    impressions = counts.tables["impressions"]
    if not impressions.kept:
        reasons = f" Dead letters: {_reasons(impressions)}." if impressions.reasons else ""
        yield (
            f"no impression was kept of {impressions.rows_in:,}: {impressions.dead_letters:,} dead letters, "
            f"{impressions.immature:,} immature, {impressions.duplicates:,} duplicates.{reasons}{_of_maturity(counts)}"
        )
        return
    if not counts.requests["train"]:
        yield f"the train split is empty. Requests: {counts.requests}. {_of_split(counts)}"
        return
    if "eval" in counts.requests and not counts.requests["eval"]:
        yield f"the split `eval` is empty, and training stops by it. Requests: {counts.requests}. {_of_split(counts)}"
    if "test" in counts.requests and not counts.requests["test"] and config.split.by != "column":
        yield (
            f"the split `test` is empty, and models are judged by it. Requests: {counts.requests}. {_of_split(counts)} "
            "Without `test_fraction` or `eval_until` they are judged by `eval`."
        )
    if not counts.positives[spec.label]["train"]:
        yield f"no impression of the train split is positive in `{spec.label}`.{_of_label(config, spec, counts)}"


def _of_maturity(counts: IngestCounts) -> str:
    if counts.mature_until is None or not counts.tables["impressions"].immature:
        return ""
    return (
        f" Requests after {counts.mature_until} are immature: their clicks may still come until the end of the log, "
        f"{counts.end_of_log}. Log for longer, set a shorter window, or `label_maturity: false`."
    )


def _of_split(counts: IngestCounts) -> str:
    if counts.eval_start is None:
        return "Look at `split` in the configuration."
    return (
        f"eval begins at {counts.eval_start} and test at {counts.test_start} (UTC milliseconds; the log ends at "
        f"{counts.end_of_log}): look at `split` in the configuration."
    )


def _of_label(config: IngestConfig, spec: FeatureSpec, counts: IngestCounts) -> str:
    clicks = counts.tables.get("clicks")
    if clicks is None:
        return " Is it the right column? `at_least` of a label makes one of a rating or a duration."
    label = config.label_configs(spec)[0].column
    if counts.ignored_labels:
        seen = ", ".join(f"`{name}` ({count:,})" for name, count in counts.ignored_labels.items())
        return (
            f" Labels in `clicks` that are not asked for: {seen}.{nearest(label, counts.ignored_labels)} "
            "Set the spec's `label`, or the `column` of the label."
        )
    lost = clicks.rows_in - clicks.kept
    return (
        f" Of {clicks.rows_in:,} clicks {lost:,} count for no impression: {clicks.late:,} late, {clicks.immature:,} "
        f"immature, {clicks.dead_letters:,} dead letters ({_reasons(clicks) or 'none'})."
    )


def _repeated_or_left_out(config: IngestConfig, counts: IngestCounts) -> Iterator[str]:
    limits = config.limits
    for name in ("impressions", "clicks"):
        table = counts.tables.get(name)
        if table is not None and _above(table.duplicates, table.own_rows, limits.duplicates):
            yield (
                f"{_share(table.duplicates, table.own_rows)} rows of `{name}` repeat another (`limits.duplicates`="
                f"{limits.duplicates}): was a file written twice?"
            )
    clicks, impressions = counts.tables.get("clicks"), counts.tables["impressions"]
    if clicks is not None and _above(clicks.ignored, clicks.own_rows, limits.ignored):
        seen = ", ".join(f"`{name}`" for name in counts.ignored_labels)
        yield (
            f"{_share(clicks.ignored, clicks.own_rows)} clicks have a label that is not asked for (`limits.ignored`="
            f"{limits.ignored}). They are: {seen}; asked for: {', '.join(f'`{name}`' for name in counts.positives)}."
        )
    if impressions.kept and _above(impressions.immature, impressions.rows_in, limits.immature):
        yield (
            f"{_share(impressions.immature, impressions.rows_in)} impressions are immature (`limits.immature`="
            f"{limits.immature}).{_of_maturity(counts)}"
        )


def _unknown(config: IngestConfig, counts: IngestCounts, examples_dir: AnyPath) -> Iterator[str]:
    limits = config.limits
    impressions, requests = sum(counts.impressions.values()), sum(counts.requests.values())
    if _above(counts.unknown_items, impressions, limits.unknown_items):
        unknown, known = _ids_of_both_sides(examples_dir)
        yield (
            f"{_share(counts.unknown_items, impressions)} impressions show an item without a row in `items` "
            f"(`limits.unknown_items`={limits.unknown_items}). Ids of impressions: {unknown}; of `items`: {known}."
        )
    if _above(counts.unknown_users, requests, limits.unknown_users):
        ids = _ids(_first_requests(examples_dir), "user_id")
        yield (
            f"{_share(counts.unknown_users, requests)} requests are of a user without a row in `users` "
            f"(`limits.unknown_users`={limits.unknown_users}). Their ids: {ids}."
        )


def _missing(config: IngestConfig, spec: FeatureSpec, counts: IngestCounts) -> Iterator[str]:
    for name, missing in counts.missing.items():
        feature = spec[name]
        values = sum((counts.impressions if feature.scope == "candidate" else counts.requests).values())
        if _above(missing, values, config.limits.missing):
            yield (
                f"feature `{name}` is missing in {_share(missing, values)} values (`limits.missing`="
                f"{config.limits.missing}): is `{feature.column}` of `{feature.table}` the right column?"
            )


def _above(part: int, whole: int, limit: float) -> bool:
    return whole > 0 and part / whole > limit


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.2%})"


def _reasons(table: TableCounts) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in sorted(table.reasons.items(), key=lambda entry: -entry[1]))


def _some(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _letter_of(dead_letters_dir: AnyPath, table: str, path: str) -> dict:
    """Returns a dead letter of a file, of its most frequent reason."""
    for file in storage.entries(dead_letters_dir, "*.parquet"):
        letters = read_parquet(file)
        ours = letters.filter(pc.and_(pc.equal(letters["source"], path), pc.equal(letters["table"], table)))
        if ours.num_rows:
            reason = pc.mode(ours["reason"].combine_chunks().dictionary_encode().indices)[0]["mode"].as_py()
            reason = ours["reason"].combine_chunks().dictionary_encode().dictionary[reason]
            return ours.filter(pc.equal(ours["reason"], reason)).slice(0, 1).to_pylist()[0]
    return {}


def _first_requests(examples_dir: AnyPath) -> pa.Table | None:
    """Returns the requests of the first file that has any."""
    for split in storage.entries(examples_dir, "Split-*"):
        for file in storage.entries(split, "requests-*.parquet"):
            table = read_parquet(file, ["user_id", "item_id"])
            if table.num_rows:
                return table
    return None


def _ids_of_both_sides(examples_dir: AnyPath) -> tuple[str, str]:
    """Returns ids of impressions that the catalogue lacks, and ids of the catalogue."""
    requests = _first_requests(examples_dir)
    if not has_catalogue(examples_dir) or requests is None:
        return _ids(requests, "item_id"), "none"
    known = one_chunk(read_catalogue(examples_dir)["item_id"])
    shown = one_chunk(requests["item_id"]).flatten().unique()
    unknown = shown.filter(pc.invert(pc.is_in(shown, known)))
    return _listed(unknown), _listed(known)


def _ids(requests: pa.Table | None, name: str) -> str:
    if requests is None:
        return "none"
    ids = one_chunk(requests[name])
    return _listed((ids.flatten() if pa.types.is_list(ids.type) else ids).unique())


def _listed(ids: pa.Array) -> str:
    return ", ".join(f"`{value}`" for value in ids[:_NAMED].to_pylist()) or "none"
