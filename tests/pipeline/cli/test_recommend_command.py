"""`clickmill recommend` on exported models: the same list as `Cascade`, as a table and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from features import storage
from features.examples.raw_sample import json_request
from pipeline.cli.app import app
from serving.offline.cascade_scoring import sample_requests
from serving.release.labels import promote
from serving.release.manifest import ReleasedModel
from serving.release.publish_release import publish_release
from tests.builders import cascade_example

pytestmark = pytest.mark.usefixtures("loaded_once")

runner = CliRunner()


@pytest.fixture(scope="module")
def work(cascade_work):
    return cascade_work


@pytest.fixture(scope="module")
def cascade(work):
    return cascade_example.load(work, retrieve=50, coarse=50, top_k=4)


@pytest.fixture(scope="module")
def request_file(work, cascade, tmp_path_factory):
    (table,) = sample_requests(work / "raw" / "examples", work / "raw" / "behaviors", "eval", cascade, 1)
    request = json_request(table.to_pylist()[0], cascade.ranker.spec)
    del request["candidates"]
    path = tmp_path_factory.mktemp("recommend") / "request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    return path


def invoke(work, request_file, *further):
    arguments = {
        "--two-tower": work / "two_tower",
        "--ranker": work / "autoint",
        "--items": work / "raw" / "examples" / "catalogue" / "items.parquet",
        "--request": request_file,
    }
    flat = [str(part) for pair in arguments.items() for part in pair]
    return runner.invoke(app, ["recommend", *flat, *further], env={"COLUMNS": "220"})


def test_json_is_what_the_cascade_says(work, cascade, request_file):
    expected = cascade.recommend(json.loads(request_file.read_text()), explain=True)
    result = invoke(work, request_file, "--retrieve", "50", "-k", "4", "--explain", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["ranker"] == str(work / "autoint" / "1")
    assert [item["item_id"] for item in answer["items"]] == [item.item_id for item in expected]
    for item, want in zip(answer["items"], expected, strict=True):
        assert item["logit"] == pytest.approx(want.logit, abs=1e-5)
        assert item["stages"]["retrieve"]["rank"] == want.stages["retrieve"].rank
        assert [pair["field"] for pair in item["attention"]] == [pair.field for pair in want.attention]


def test_a_table_for_people(work, cascade, request_file):
    expected = cascade.recommend(json.loads(request_file.read_text()))
    plain = invoke(work, request_file, "--retrieve", "50", "-k", "4")
    assert plain.exit_code == 0, plain.output
    assert all(str(item.item_id) in plain.stdout and f"{item.score:.4f}" in plain.stdout for item in expected)
    assert "attention" not in plain.stdout
    explained = invoke(work, request_file, "--retrieve", "50", "-k", "4", "--explain")
    assert "strongest attention" in explained.stdout and "(rank 1)" in explained.stdout and "layer" in explained.stdout


def test_a_release_is_enough(work, request_file, tmp_path):
    """The models, the items and the sizes are those that the release names; flags win over them."""
    root = str(tmp_path / "serving_models")
    for name in ("two_tower", "autoint"):
        storage.copy_tree(work / name, storage.join(root, f"shop_{name}"))
    models = [
        ReleasedModel(name=f"shop_{name}", stage=stage, version=1, path=f"shop_{name}/1")
        for name, stage in (("two_tower", "retrieval"), ("autoint", "fine"))
    ]
    chain = {model.stage: model.name for model in models}
    items = work / "raw" / "examples" / "catalogue" / "items.parquet"
    sizes = {"retrieve": 50, "coarse": 50, "top_k": 4}
    made = publish_release(root, models, items=items, cascade=sizes, cascade_models=chain)
    promote(root, made.id, "stable")
    named = json.loads(invoke(work, request_file, "--retrieve", "50", "-k", "4", "--json").stdout)
    for release, further, count in (("stable", (), 4), ("latest", ("-k", "2"), 2), (made.id, (), 4)):
        arguments = ["recommend", "--root", root, "--release", release, "-r", str(request_file), "--json", *further]
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, result.output
        answer = json.loads(result.stdout)
        assert answer["ranker"] == f"{root}/shop_autoint/1" and answer["items"] == named["items"][:count]


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--retrieve", "5", "-k", "9"], "a cascade narrows"),
        (["--items", "/nowhere/items.parquet"], "/nowhere/items.parquet: no such file of items"),
        (["--coarse", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_mistakes_are_one_line(work, request_file, further, message):
    result = invoke(work, request_file, *further)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.output


def test_a_request_with_candidates_is_told_so(work, request_file, tmp_path):
    wrong = tmp_path / "request.json"
    wrong.write_text(json.dumps(json.loads(request_file.read_text()) | {"candidates": []}))
    result = invoke(work, wrong)
    assert result.exit_code == 2 and "leave `candidates` out" in result.stderr
