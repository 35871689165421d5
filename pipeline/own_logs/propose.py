"""A first feature spec and profile for somebody's log, with what was seen of each column beside it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import to_numpy
from features.config import nearest
from features.errors import InputError
from features.ingest.checking.columns import convert
from features.ingest.checking.timestamps import to_milliseconds
from features.log_contract import MIN_TIMESTAMP, TABLES
from features.spec import RESERVED_COLUMNS
from pipeline.own_logs.column_statistics import ColumnStatistics, auc_alone, sample_table, statistics_of
from pipeline.own_logs.guess_tables import GuessedTable, guess_tables, plain_name

#: A column that tells the label alone better than this is no feature but the answer, or was written after it.
LEAK_AUC = 0.95

#: Integers of at most so many values are categories.
FEW_VALUES = 50

#: Columns that are labels where there is no table of clicks, in the order of preference.
LABELS = (
    *("click", "clicked", "is_click", "clicks", "label", "like", "liked", "purchase", "purchased", "order"),
    *("conversion", "converted", "long_view", "rating", "watch_ratio"),
)


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Texts of the two files, and the settings of LogIngest that the profile holds.

    Attributes:
      spec: YAML of the feature spec.
      profile: YAML of the profile.
      ingest: the profile's section `ingest`.
      asked: what only the log's owner can know, one line each.
    """

    spec: str
    profile: str
    ingest: dict[str, Any]
    asked: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A column of the sample: its name in Clickmill, what it holds, how well it tells the label."""

    source: str
    name: str
    statistics: ColumnStatistics
    auc: float
    varies: bool


class _Log:
    """The sampled tables, keys and label of a log."""

    def __init__(self, tables: dict[str, GuessedTable], rows: int, label: str | None):
        self.tables = tables
        self.samples = {name: sample_table(table, rows) for name, table in tables.items()}
        self.asked: list[str] = []
        self.request_columns = [] if tables["impressions"].key("request_id") else ["user_id", "timestamp"]
        self.units = {name: self._unit(name) for name in tables if "timestamp" in TABLES[name].required}
        self.zoneless = any(self._zoneless(name) for name in self.units)
        self.label_column, self.label, self.at_least = self._label(label)

    def column(self, table: str, key: str) -> pa.Array:
        source = self.tables[table].key(key)
        if source is None:
            raise InputError(
                f"{self.tables[table].config.path}: no column for `{key}`. It has: "
                f"{', '.join(self.tables[table].columns)}. Rename it, or say in the profile: `columns: {{{key}: …}}`."
            )
        return self.samples[table][source]

    def _unit(self, table: str) -> str:
        """The unit of whole timestamps, by their size."""
        numbers, _ = convert(self.column(table, "timestamp"), "float64")
        numbers = numbers.drop_null()
        if not len(numbers):
            return "ms"
        size = float(np.median(to_numpy(numbers)))
        for unit, factor in (("s", 1000), ("ms", 1), ("us", 1e-3), ("ns", 1e-6)):
            if MIN_TIMESTAMP <= size * factor < MIN_TIMESTAMP * 100:
                return unit
        return "ms"

    def _zoneless(self, table: str) -> bool:
        return bool(to_milliseconds(self.column(table, "timestamp"))[2].any())

    def _label(self, asked: str | None) -> tuple[str | None, str, float | None]:
        """The label's column of impressions (None: clicks have their table), its name, and its threshold."""
        if "clicks" in self.tables:
            return None, asked or self._commonest_click(), None
        names = {plain_name(source): source for source in reversed(self.tables["impressions"].columns)}
        if asked is not None:
            source = names.get(plain_name(asked))
            if source is None:
                raise InputError(f"--label: impressions have no column `{asked}`.{nearest(asked, names)}")
        else:
            source = next((names[name] for name in LABELS if name in names), None)
            if source is None:
                raise InputError(
                    f"which column of impressions is the label? Say `--label NAME`. There are: {', '.join(names)}."
                )
        numbers, bad = convert(self.samples["impressions"][source], "float64")
        if bad.any() or numbers.null_count == len(numbers):
            raise InputError(f"the label `{source}` must be numbers. Say another column: `--label NAME`.")
        values = to_numpy(numbers.drop_null())
        name = plain_name(source) if plain_name(source) not in RESERVED_COLUMNS else "positive"
        if values.min() >= 0 and values.max() <= 1:
            return source, name, None
        threshold = min((v for v in np.unique(values) if np.mean(values >= v) <= 0.6), default=float(values.max()))
        self.asked.append(
            f"`{source}` is not in [0, 1]: it counts as positive from {threshold:g} on "
            f"({np.mean(values >= threshold):.0%} of the rows)"
        )
        return source, name, float(threshold)

    def _commonest_click(self) -> str:
        if self.tables["clicks"].key("label") is None:
            return "click"
        counted = pc.value_counts(convert(self.column("clicks", "label"), "string")[0].drop_null()).to_pylist()
        values = sorted(counted, key=lambda each: -each["counts"])
        names = [each["values"] for each in values]
        chosen = "click" if "click" in names else names[0] if names else "click"
        if len(names) > 1:
            self.asked.append(f"the label is `{chosen}`; clicks also have {', '.join(names[:6])}")
        return chosen

    def label_values(self) -> np.ndarray:
        """The label of the sampled impressions, [N] of 0 and 1, NaN where it is missing."""
        if self.label_column is not None:
            numbers = to_numpy(convert(self.samples["impressions"][self.label_column], "float64")[0])
            positive = numbers > 0 if self.at_least is None else numbers >= self.at_least
            return np.where(np.isnan(numbers), np.nan, positive.astype(np.float64))
        pairs = {}
        for table in ("impressions", "clicks"):
            request, item = (convert(self.column(table, key), "string")[0] for key in ("request_id", "item_id"))
            pairs[table] = pc.binary_join_element_wise(request.fill_null(""), item.fill_null(""), "\x1f")
        return to_numpy(pc.is_in(pairs["impressions"], pairs["clicks"])).astype(np.float64)

    def columns(self, table: str) -> Iterator[_Seen]:
        """The columns of a table that are neither keys nor the label."""
        guessed = self.tables[table]
        keys = {guessed.config.source(key) for key in (*TABLES[table].required, *TABLES[table].optional)}
        label = self.label_values()
        rows = self._rows_of(table)
        requests = self._requests() if table == "impressions" else None
        for source, values in self.samples[table].items():
            if source in keys or (table == "impressions" and source == self.label_column):
                continue
            statistics, typed = statistics_of(values)
            of_impressions = typed if rows is None else typed.take(rows)
            name = plain_name(source)
            varies = requests is not None and _varies(typed, requests)
            yield _Seen(source, name, statistics, auc_alone(of_impressions, label), varies)

    def _rows_of(self, table: str) -> pa.Array | None:
        """Which row of a side table belongs to each sampled impression; None: the impressions themselves."""
        if table == "impressions":
            return None
        key = TABLES[table].required[0]
        ids, wanted = (convert(self.column(name, key), "string")[0] for name in (table, "impressions"))
        return pc.index_in(wanted, ids)

    def _requests(self) -> np.ndarray:
        names = self.request_columns or ["request_id"]
        texts = [convert(self.column("impressions", name), "string")[0].fill_null("") for name in names]
        joined = pc.binary_join_element_wise(*texts, "\x1f")
        return joined.dictionary_encode().indices.to_numpy()


def propose(paths: Sequence[str], name: str, spec_file: str, label: str | None = None, rows: int = 200_000) -> Proposal:
    """Proposes a feature spec and a profile that run as they are.

    Args:
      paths: of the log's tables, as `guess_tables` takes them.
      name: of the pipeline and the spec.
      spec_file: what the profile calls the spec's file.
      label: the column of impressions, or the value of `clicks.label`, to learn; by default the likeliest.
      rows: of each table, how many are looked at.

    Raises:
      InputError: if a table, a key or the label cannot be told.
    """
    log = _Log(guess_tables(paths), rows, label)
    ingest = _ingest_of(log)
    return Proposal(_spec_text(log, name), _profile_text(log, name, spec_file, ingest), ingest, tuple(log.asked))


def _spec_text(log: _Log, name: str) -> str:
    lines = [
        "# Proposed by `clickmill spec init` from a sample of the log. Behind `# -` stands what was left out, and why.",
        f"name: {name}",
        f"label: {log.label}",
    ]
    if log.zoneless:
        lines.append("timezone: UTC  # ASKED: the log's times have no zone; say theirs, as in Europe/Oslo")
        log.asked.append("the log's times have no zone: `timezone` of the spec says UTC")
    lines += ["features:"]
    taken = {log.label, *RESERVED_COLUMNS}
    for table in ("users", "impressions", "items"):
        if table not in log.tables:
            continue
        lines.append(f"  # {table}: {log.tables[table].config.path}")
        if table == "items":
            lines.append(_item_id_line(log))
        for seen in log.columns(table):
            feature = seen.name if seen.name not in taken else f"{table.rstrip('s')}_{seen.name}"
            taken.add(feature)
            lines.append(_feature_line(log, table, feature, seen))
    if "items" not in log.tables:
        lines.append(_item_id_line(log))
    lines.append("history: {features: [item_id], short_length: 50, long_length: 1000}")
    return "\n".join(lines) + "\n"


def _item_id_line(log: _Log) -> str:
    column = log.column("impressions", "item_id")
    statistics, _ = statistics_of(column)
    dtype = ", dtype: int64" if pa.types.is_integer(column.type) else ""
    vocabulary = "vocabulary: {min_count: 2, oov_buckets: 8}"
    return f"  - {{name: item_id, table: items{dtype}, {vocabulary}}}  # {statistics.told()} in impressions"


def _feature_line(log: _Log, table: str, name: str, seen: _Seen) -> str:
    statistics = seen.statistics
    why = _why_not(table, seen)
    entry = [f"name: {name}", f"table: {table}"]
    if seen.source != name:
        entry.append(f"column: {json.dumps(seen.source, ensure_ascii=False)}")
    entry += _kind_of(seen)
    if table == "impressions" and seen.varies:
        entry.append("scope: candidate")
    line = f"- {{{', '.join(entry)}}}"
    told = f"{statistics.told()}, AUC alone {seen.auc:.2f}" if statistics.distinct else statistics.told()
    if why is not None:
        return f"  # {line}  # left out: {why}; {told}"
    return f"  {line}  # {told}"


def _kind_of(seen: _Seen) -> list[str]:
    statistics = seen.statistics
    rule = "vocabulary: {min_count: 2}" if statistics.distinct > 1000 else ""
    if statistics.distinct > 100_000:
        rule = "vocabulary: {min_count: 2, max_size: 100000}"
    if statistics.multi_valued:
        dtype = ["dtype: int64"] if statistics.kind == "integers" else []
        return ["kind: multi_categorical", *dtype, *filter(None, [rule])]
    if statistics.kind == "integer" and (statistics.distinct <= FEW_VALUES or seen.name.endswith("_id")):
        return ["dtype: int64", *filter(None, [rule])]
    if statistics.kind in ("integer", "number"):
        skewed = statistics.spread > 20 and not statistics.negative
        return ["kind: numeric", f"transform: {'log_squared' if skewed else 'standardize'}"]
    return list(filter(None, [rule]))


def _why_not(table: str, seen: _Seen) -> str | None:
    """Why a column is no feature; None: it is one."""
    statistics = seen.statistics
    if not statistics.distinct:
        return "every value is missing"
    if statistics.distinct == 1 and not statistics.missing:
        return "it has one value"
    if statistics.kind == "time":
        return "it is a time"
    if seen.auc > LEAK_AUC and (table == "impressions" or statistics.distinct > 2):
        return f"LEAKAGE? it tells the label alone with AUC {seen.auc:.2f}"
    if statistics.kind == "text" and statistics.distinct > max(1000, 0.9 * statistics.rows):
        return "nearly every row has a value of its own"
    return None


def _varies(values: pa.Array, requests: np.ndarray) -> bool:
    """Whether rows of one request differ in a column."""
    if pa.types.is_nested(values.type):
        values = pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.string())
    codes = values.dictionary_encode().indices.fill_null(-1).to_numpy()
    order = np.argsort(requests, kind="stable")
    same = requests[order][1:] == requests[order][:-1]
    return bool(np.any(same & (codes[order][1:] != codes[order][:-1])))


def _ingest_of(log: _Log) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for name, table in log.tables.items():
        config = table.config
        settings = config.model_dump(exclude_defaults=True)
        columns = {
            key: source
            for key, source in config.columns.items()
            if key in TABLES[name].required + TABLES[name].optional
        }
        settings = {key: value for key, value in settings.items() if key != "columns"}
        if columns:
            settings["columns"] = columns
        if log.units.get(name, "ms") != "ms":
            settings["timestamp_unit"] = log.units[name]
        tables[name] = settings if len(settings) > 1 else config.path
    ingest: dict[str, Any] = {"tables": tables}
    if log.request_columns:
        ingest["request_columns"] = log.request_columns
    if log.label_column is not None and (log.label_column != log.label or log.at_least is not None):
        label: dict[str, Any] = {"name": log.label, "column": log.label_column}
        ingest["labels"] = [label | ({"at_least": log.at_least} if log.at_least is not None else {})]
    ingest["split"] = {"by": "time", "eval_fraction": 0.1, "test_fraction": 0.1}
    return ingest


def _profile_text(log: _Log, name: str, spec_file: str, ingest: dict[str, Any]) -> str:
    import yaml

    notes = [f"# ASKED: {line}." for line in log.asked]
    if log.request_columns:
        notes.append("# The log has no request id: rows of one user at one time are taken for one request.")
    body = {
        "name": name,
        "feature_spec": spec_file,
        "ingest": ingest,
        "models": {
            "two_tower": {"training": {"epochs": 2}},
            "autoint": {
                "parameters": {"history": {"short": "target_attention"}},
                "training": {"epochs": 2, "optimizer": {"learning_rate": 0.002}},
            },
        },
    }
    head = "# Proposed by `clickmill spec init`; docs/reference/config.md explains every key."
    return "\n".join([head, *notes, yaml.safe_dump(body, sort_keys=False, allow_unicode=True)])
