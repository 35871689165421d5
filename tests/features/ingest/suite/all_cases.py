"""All kinds of bad input by name."""

from __future__ import annotations

from tests.features.ingest.suite.case import BadInput
from tests.features.ingest.suite.csv_cases import CSV
from tests.features.ingest.suite.file_cases import FILES
from tests.features.ingest.suite.join_cases import JOINS
from tests.features.ingest.suite.json_cases import JSON
from tests.features.ingest.suite.judge_cases import JUDGED
from tests.features.ingest.suite.packed_cases import PACKED
from tests.features.ingest.suite.parquet_cases import PARQUET
from tests.features.ingest.suite.settings_cases import SETTINGS
from tests.features.ingest.suite.value_cases import VALUES

CASES: dict[str, BadInput] = {
    case.name: case for cases in (CSV, JSON, PACKED, PARQUET, FILES, VALUES, JOINS, JUDGED, SETTINGS) for case in cases
}
