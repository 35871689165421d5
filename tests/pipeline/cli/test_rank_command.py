"""`clickmill rank` on an exported model: the same ranking as `Ranker`, as a table and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from serving.ranker import Ranker
from tests.builders.small_ranker import json_request, random_requests

runner = CliRunner()


@pytest.fixture(scope="module")
def request_row():
    return json_request(random_requests(5, seed=4).to_pylist()[3])


def test_json_is_what_the_ranker_says(base_dir, request_row, tmp_path):
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request_row), encoding="utf-8")
    ranked = Ranker(base_dir).rank(request_row)

    result = runner.invoke(app, ["rank", "--model", str(base_dir), "--request", str(path), "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["model"] == str(base_dir / "3")
    assert [(item["index"], item["item_id"], item["score"]) for item in answer["ranked"]] == [
        (item.index, item.item_id, item.score) for item in ranked
    ]


def test_standard_input_and_top(base_dir, request_row):
    ranked = Ranker(base_dir).rank(request_row)
    result = runner.invoke(
        app, ["rank", "-m", str(base_dir), "-r", "-", "-k", "1"], input=json.dumps(request_row), env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert f"{ranked[0].score:.4f}" in result.stdout
    assert len([line for line in result.stdout.splitlines() if line.startswith("│")]) == 1


def test_a_request_that_cannot_be_ranked_is_one_line(base_dir):
    result = runner.invoke(app, ["rank", "-m", str(base_dir), "-r", "-"], input='{"candidates": [{"prise": 1.0}]}')
    assert result.exit_code == 2
    assert result.stderr.startswith("clickmill: ") and "Did you mean `price`?" in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_without_a_model(tmp_path):
    result = runner.invoke(app, ["rank", "-m", str(tmp_path), "-r", "-"], input='{"candidates": []}')
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr and "Traceback" not in result.output
