"""Over a hundred kinds of bad input, each in a process with a time limit: dead letters, by line, or an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.features.ingest.suite.all_cases import CASES

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def results(request):
    """What came of each case that this session tests."""
    tests = [item for item in request.session.items if getattr(item, "originalname", "") == "test_bad_input"]
    names = [item.callspec.params["name"] for item in tests]
    command = [sys.executable, "-W", "ignore", "-m", "tests.features.ingest.suite.server", *dict.fromkeys(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {each["name"]: each for each in found}


def test_there_are_enough_kinds():
    assert len(CASES) >= 120


@pytest.mark.parametrize("name", CASES)
def test_bad_input(results, name):
    case, found = CASES[name], results[name]
    assert "crash" not in found, found["crash"]
    error = found.get("error", "")
    if case.error:
        assert error, f"no error came; letters: {found.get('letters')}"
        missing = [part for part in case.error if part not in error]
        assert not missing, f"{missing} not in: {error}"
    else:
        assert not error, error
    if case.letters is not None:
        letters = {table: reasons for table, reasons in found["letters"].items() if reasons}
        assert letters == {table: dict(reasons) for table, reasons in case.letters.items()}
    for table, fields in case.counts.items():
        given = found["counts"]["tables"][table]
        assert {field: given[field] for field in fields} == dict(fields)
    if "counts" in found:
        assert found["flaws"] == []
        for table, count in found["counts"]["tables"].items():
            parts = ("kept", "duplicates", "dead_letters", "immature", "late", "ignored")
            assert count["rows_in"] == sum(count[part] for part in parts) == found["records"][table], table
