"""`clickmill predict`: with a pushed ranker, with a release, and what it says of arguments that do not go together."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from serving.offline.prediction import released_model
from serving.release.manifest import ReleasedModel
from serving.release.publish_release import publish_release
from tests.builders.small_ranker import json_request, random_requests

pytestmark = pytest.mark.usefixtures("loaded_once")

runner = CliRunner()


def invoke(*arguments):
    return runner.invoke(app, ["predict", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def requests_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("requests") / "requests.jsonl"
    rows = random_requests(12, seed=4).to_pylist()
    path.write_text("\n".join(json.dumps(json_request(row)) for row in rows) + "\n[]\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def root(base_dir, tmp_path_factory):
    """A serving root whose release, labelled stable, names the exported ranker, and another that is no file of one."""
    root = tmp_path_factory.mktemp("root") / "serving"
    models = []
    for name in ("shop", "other"):
        shutil.copytree(base_dir / "3", root / name / "3")
        models.append(ReleasedModel(name=name, stage="fine", version=3, path=f"{name}/3"))
    return root, publish_release(str(root), models, allowed_by="a test")


def test_a_pushed_ranker(base_dir, requests_file, tmp_path):
    done = invoke(requests_file, "--out", tmp_path, "--model", base_dir, "--max-rejected", "0.1")
    assert done.exit_code == 0, done.output
    assert "13 requests by shop 3: 12 scored" in done.stdout and "1 rejected; 1 of 1 units scored now" in done.stdout
    again = invoke(requests_file, "--out", tmp_path, "--model", base_dir, "--max-rejected", "0.1", "--json")
    found = json.loads(again.stdout)
    assert found["scored_now"] == 0 and found["total"]["rejected"] == 1
    few = invoke(requests_file, "--out", tmp_path, "--model", base_dir)
    assert few.exit_code == 1 and "1 of 13 requests cannot be ranked (1 bad_request)" in few.stderr


def test_a_release(root, requests_file, tmp_path):
    root, release = root
    given = [requests_file, "--root", root, "--release", "latest", "--max-rejected", "0.1"]
    unsaid = invoke(*given, "--out", tmp_path)
    assert unsaid.exit_code == 2 and "give one by --ranker" in unsaid.stderr and "shop, other" in unsaid.stderr
    done = invoke(*given, "--out", tmp_path, "--ranker", "shop", "--top", "1")
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("scores-*.parquet")
    rows = pq.read_table(path).to_pylist()
    assert {(row["release"], row["model"], row["model_version"]) for row in rows} == {(release.id, "shop", 3)}
    assert len(rows) == 12
    other = invoke(*given, "--out", tmp_path, "--ranker", "other", "--top", "1")
    assert other.exit_code == 2 and "`model` shop instead of other" in other.stderr
    unknown = invoke(*given, "--out", tmp_path, "--ranker", "shp")
    assert unknown.exit_code == 2 and "shp" in unknown.stderr


def test_a_release_whose_files_changed_is_refused(root, requests_file, tmp_path):
    root, release = root
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert released_model(str(copy), release.id, "other").release == release.id
    (copy / "other" / "3" / "saved_model.pb").write_bytes(b"another")
    done = invoke(requests_file, "-o", tmp_path / "out", "--root", copy, "--release", release.id, "--ranker", "other")
    assert done.exit_code == 1 and "is not whole" in done.stderr and "saved_model.pb has changed" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "a ranker by --model, or a release by --release"),
        (["--model", "{base}", "--release", "stable"], "not both"),
        (["--release", "stable", "--tables", "{base}"], "leave --tables out"),
        (["--model", "{base}", "--ranker", "shop"], "leave it out beside --model"),
        (["--model", "{base}", "--tables", "{base}"], "takes no bucket tables"),
        (["--model", "{base}", "--signatures", "{base}"], "feature_signatures|signatures"),
    ],
)
def test_arguments_that_do_not_go_together(base_dir, requests_file, tmp_path, arguments, said):
    done = invoke(requests_file, "--out", tmp_path / "out", *(each.format(base=base_dir) for each in arguments))
    assert done.exit_code == 2 and any(each in done.stderr for each in said.split("|")), done.output
    assert not (tmp_path / "out").exists()
