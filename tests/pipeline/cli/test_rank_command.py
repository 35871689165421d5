"""`clickmill rank` on an exported model: the same ranking as `Ranker`, as a table and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from features import storage
from pipeline.cli.app import app
from serving.ranker import Ranker
from serving.release.manifest import ReleasedModel
from serving.release.publish_release import publish_release
from tests.builders.small_ranker import json_request, random_requests

pytestmark = pytest.mark.usefixtures("loaded_once")

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


def test_a_release_names_the_model(base_dir, request_row, tmp_path):
    root = str(tmp_path / "serving_models")
    models = []
    for name in ("shop_autoint", "shop_aw_moe"):
        storage.copy_tree(base_dir / "3", storage.join(root, name, "3"))
        models.append(ReleasedModel(name=name, stage="fine", version=3, path=f"{name}/3"))
    made = publish_release(root, models)

    def ranked(*arguments):
        command = ["rank", "--root", root, "--release", *arguments, "-r", "-", "--json"]
        return runner.invoke(app, command, input=json.dumps(request_row))

    two = ranked("latest")
    assert two.exit_code == 2 and "2 fine rankers: name one by --model. shop_autoint, shop_aw_moe" in two.stderr
    other = ranked(made.id, "-m", "hcn")
    assert other.exit_code == 2 and "holds no `hcn` but shop_autoint, shop_aw_moe" in other.stderr
    answer = json.loads(ranked("latest", "-m", "shop_aw_moe").stdout)
    assert answer["model"] == f"{root}/shop_aw_moe/3"
    assert [item["score"] for item in answer["ranked"]] == [item.score for item in Ranker(base_dir).rank(request_row)]
    publish_release(root, models[:1])
    assert json.loads(ranked("latest").stdout)["model"] == f"{root}/shop_autoint/3"


def test_a_request_that_cannot_be_ranked_is_one_line(base_dir):
    result = runner.invoke(app, ["rank", "-m", str(base_dir), "-r", "-"], input='{"candidates": [{"prise": 1.0}]}')
    assert result.exit_code == 2
    assert result.stderr.startswith("clickmill: ") and "Did you mean `price`?" in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_without_a_model(tmp_path):
    result = runner.invoke(app, ["rank", "-m", str(tmp_path), "-r", "-"], input='{"candidates": []}')
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr and "Traceback" not in result.output
