"""Which columns of each table are read, under which name and as what: contract, spec and files together."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence

import pyarrow as pa

from features.config import nearest
from features.ingest.checking.columns import arrow_type, target_of
from features.ingest.config import IngestConfig, LabelConfig, TableConfig
from features.ingest.reading.files import TableFiles, check_columns, find_files
from features.log_contract import TABLES, LogContractError
from features.spec import KEY_COLUMNS, RESERVED_COLUMNS, Feature, FeatureSpec

#: Joins the values of `request_columns`: no text of a log holds it.
UNIT_SEPARATOR = "\x1f"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column to read: `source` in the file, `name` and `target` type afterwards, `role` chooses its check.

    Features are named `f:<feature>`, labels `l:<label>`, their values `v:<label>` and parts of a request id
    `r:<column>` on the way, so that they cannot meet the keys.
    """

    source: str
    name: str
    target: str
    role: str
    at_least: float | None = None


#: Types of checked columns that are not those of their targets, by role.
_TYPES = {"position": pa.int32(), "label": pa.float32(), "split": pa.int8(), "click_label": pa.int8()}


@dataclasses.dataclass(frozen=True)
class TablePlan:
    """How a table is read and checked.

    Attributes:
      table: its name.
      config: where it lies and how its files are written.
      files: its files.
      columns: what is read of them.
      labels: values of `clicks.label`, in the order of their codes.
      timezone: of times without a zone.
    """

    table: str
    config: TableConfig
    files: TableFiles
    columns: tuple[Column, ...]
    labels: tuple[str, ...] = ()
    timezone: str | None = None

    @property
    def sources(self) -> dict[str, str]:
        """The columns of the files to read, with the type that each is for; text where two uses differ."""
        found: dict[str, str] = {}
        for column in self.columns:
            target = "timestamp" if column.role == "timestamp" else column.target
            if found.setdefault(column.source, target) != target:
                found[column.source] = "list<string>" if "list" in found[column.source] + target else "string"
        return found

    @property
    def passed_over(self) -> tuple[str, ...]:
        """The files that are not read, for their names."""
        return self.files.passed_over

    @property
    def differing_files(self) -> tuple[str, ...]:
        """The files that lack columns which others of the table have, with the names of these."""
        told = []
        for file in self.files.files:
            lacking = [name for name in self.sources if name not in file.columns]
            if lacking and not file.empty:
                told.append(f"{file.path} has no {', '.join(f'`{name}`' for name in lacking)}")
        return tuple(told)

    def has(self, name: str) -> bool:
        """Whether checked rows have a column."""
        return any(column.name == name for column in self.columns)

    def empty(self) -> pa.RecordBatch:
        """Returns no rows, with the columns and types of checked rows."""
        kept = [column for column in self.columns if column.role != "request_part"]
        fields = [(column.name, _TYPES.get(column.role) or arrow_type(column.target)) for column in kept]
        if not self.has("request_id") and len(kept) < len(self.columns):
            fields.insert(0, ("request_id", pa.string()))
        fields.append(("_order", pa.int64()))
        arrays = [pa.array([], kind) for _, kind in fields]
        return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in fields])


def plan_tables(
    config: IngestConfig,
    spec: FeatureSpec,
    kept: Collection[str] = (),
    days: Mapping[str, Sequence[datetime.date]] | None = None,
) -> dict[str, TablePlan]:
    """Looks at the files of each table and decides which columns are read, with which types.

    Args:
      config: tables and labels.
      spec: the features.
      kept: those that no model learns from: no row is refused for their values.
      days: of tables by day, those that are read.

    Raises:
      LogContractError: if a table that the spec needs is not given, a file is of another table, a required, feature,
        label or split column is missing (it names the nearest that is there), or two columns have one name.
    """
    tables = config.tables.given()
    check_names(config, spec)
    for feature in spec.features:
        if feature.table not in tables and feature.column not in KEY_COLUMNS:
            raise LogContractError(
                f"feature `{feature.name}` comes from the table `{feature.table}`, which is not given: "
                f"set `tables.{feature.table}`."
            )
    found = {
        name: find_files(
            table, name, [table.source(column) for column in _wanted(name, config, spec)], (days or {}).get(name, ())
        )
        for name, table in tables.items()
    }
    key_types = {key: _key_type(key, spec, tables, found) for key in ("user_id", "item_id")}
    labels = tuple(label.column for label in config.label_configs(spec))
    plans = {}
    for name, table in tables.items():
        columns = list(_columns(name, config, spec, key_types, found[name], kept))
        required = [column.source for column in columns if column.role in (*KEY_COLUMNS, "request_part")]
        for file in found[name].files:
            check_columns(file, name, required)
        _check_present(name, columns, found[name], table)
        plans[name] = TablePlan(name, table, found[name], tuple(columns), labels, spec.timezone)
    return plans


def check_names(config: IngestConfig, spec: FeatureSpec) -> None:
    """Raises `LogContractError` where labels, their values, features and keys meet under one name."""
    taken = {feature.name: "a feature" for feature in spec.features} | dict.fromkeys(
        RESERVED_COLUMNS, "a column of the examples"
    )
    for label in config.label_configs(spec):
        for name in filter(None, (label.name, label.value_name)):
            if name in taken:
                raise LogContractError(f"the label `{name}` is also {taken[name]}: give one of them another name.")
            taken[name] = "a label"
    if config.tables.clicks is not None:
        return
    answers = {source: label.name for label in config.label_configs(spec) for source in (label.column, label.value)}
    for feature in spec.of_table("impressions"):
        if feature.column in answers:
            raise LogContractError(
                f"feature `{feature.name}` reads `{feature.column}`, which holds the label "
                f"`{answers[feature.column]}`: the model would read the answer. Leave the feature out."
            )


def _wanted(table: str, config: IngestConfig, spec: FeatureSpec) -> Iterator[str]:
    """The columns of a table that may be read, by their names in Clickmill."""
    contract = TABLES[table]
    for name in contract.required:
        if name == "request_id" and config.request_columns:
            yield from config.request_columns
        else:
            yield name
    yield from contract.optional
    for label in config.label_configs(spec):
        yield from _label_sources(table, label, config)
    if table == "impressions" and config.split.column is not None:
        yield config.split.column
    for feature in spec.features:
        if feature.table == table and feature.column not in KEY_COLUMNS:
            yield feature.column


def _label_sources(table: str, label: LabelConfig, config: IngestConfig) -> list[str]:
    in_table = table == ("impressions" if config.tables.clicks is None else "clicks")
    names = [label.column] if table == "impressions" else []
    return [*names, *([label.value] if label.value is not None else [])] if in_table else []


def _columns(
    table: str,
    config: IngestConfig,
    spec: FeatureSpec,
    key_types: dict[str, str],
    files: TableFiles,
    kept: Collection[str],
) -> Iterator[Column]:
    contract, source = TABLES[table], config.tables.given()[table].source
    types = {**key_types, "request_id": "string", "timestamp": "int64"}
    for key in contract.required:
        if key == "request_id" and config.request_columns:
            for name in config.request_columns:
                yield Column(source(name), f"r:{name}", "string", "request_part")
        else:
            yield Column(source(key), key, types[key], key)
    present = {name for file in files.files for name in file.columns}
    for name, target in (("position", "int64"), ("propensity", "float64"), ("action", "string")):
        if name in contract.optional and source(name) in present:
            yield Column(source(name), name, target, name)
    if table == "clicks":
        if source("label") in present:
            yield Column(source("label"), "_label_code", "string", "click_label")
        elif len(config.label_configs(spec)) > 1:
            path = config.tables.given()[table].path
            raise LogContractError(
                f"`labels` names further labels, but table `clicks` ({path}) has no column `{source('label')}` to tell "
                f"them apart.{nearest('label', present)} It has: {', '.join(sorted(present))}."
            )
    for label in config.label_configs(spec):
        names = _label_sources(table, label, config)
        if table == "impressions" and names:
            yield Column(source(names[0]), f"l:{label.name}", "float64", "label", label.at_least)
        if label.value is not None and names:
            yield Column(source(label.value), f"v:{label.name}", "float64", "value")
    if table == "impressions" and config.split.column is not None:
        yield Column(source(config.split.column), "_split", "string", "split")
    for feature in spec.features:
        if feature.table == table and feature.column not in KEY_COLUMNS:
            role = "kept" if feature.name in kept else "value"
            yield Column(source(feature.column), f"f:{feature.name}", target_of(feature), role)


def _check_present(name: str, columns: list[Column], files: TableFiles, table: TableConfig) -> None:
    present = sorted({column for file in files.files for column in file.columns})
    for column in columns:
        if column.source not in present:
            raise LogContractError(
                f"table `{name}` ({table.path}) has no column `{column.source}`.{nearest(column.source, present)} "
                f"It has: {', '.join(present)}."
            )


def _key_type(key: str, spec: FeatureSpec, tables: dict[str, TableConfig], found: dict[str, TableFiles]) -> str:
    """A feature made of the key says its type. Else integers, where every file of every table holds it as integers."""
    own: list[Feature] = [feature for feature in spec.features if feature.column == key and feature.name == key]
    if own:
        return own[0].dtype
    for name, files in found.items():
        if key in TABLES[name].required:
            source = tables[name].source(key)
            kinds = [file.columns[source] for file in files.files if source in file.columns]
            if not all(pa.types.is_integer(_values(kind)) for kind in kinds):
                return "string"
    return "int64"


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
