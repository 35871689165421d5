"""docs/guides/own-logs.md, as it is written, on a small part of MovieLens-1M's raw files."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from features.datasets import download
from features.ingest.counts import IngestCounts

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
USERS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folders of the guide: the ratings of a few users, and the tables of items and users as they are."""
    root = tmp_path_factory.mktemp("own_logs")
    try:
        source = Path(download.fetch(root / "download", print))
    except Exception as error:
        pytest.skip(f"MovieLens-1M cannot be downloaded here: {error}")
    raw = root / "logs" / "ml-1m"
    raw.mkdir(parents=True)
    for name in ("ml-1m.item", "ml-1m.user"):
        (raw / name).write_bytes((source / name).read_bytes())
    header, *lines = (source / "ml-1m.inter").read_text("utf-8").splitlines(keepends=True)
    few = [line for line in lines if int(line.split("\t")[0].removeprefix("1m_")) <= USERS]
    (raw / "ml-1m.inter").write_text(header + "".join(few), encoding="utf-8")
    return root, len(few)


def test_the_guide_s_commands_end_in_a_report(folder):
    root, ratings = folder
    text = (ROOT / "docs" / "guides" / "own-logs.md").read_text("utf-8")
    commands = [line.strip().split("#")[0] for line in text.splitlines() if re.match(r" {4}\.venv/bin/clickmill", line)]
    told = [command for command in commands if "logs/today" not in command and "serving_models" not in command]
    init, check, run, *_ = [command for command in told if "--models" not in command]
    for command in (init, check, run):
        done = subprocess.run(
            [str(ROOT / ".venv" / "bin" / "clickmill"), *command.split()[1:]], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    (counts,) = (root / "runs").rglob("counts.json")
    account = IngestCounts.load(counts.parent)
    assert account.tables["impressions"].kept == ratings > 10_000
    assert account.unknown_items == account.unknown_users == 0
    report = json.loads(next((root / "runs").rglob("report.json")).read_text())
    assert {model for model in ("two_tower", "autoint") if model in json.dumps(report)} == {"two_tower", "autoint"}
