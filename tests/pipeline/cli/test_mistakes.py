"""Requests and arguments that people get wrong, on real exports: a message and exit code 2, never a traceback."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from features.examples.raw_sample import json_request
from pipeline.cli.app import app
from serving.offline.cascade_scoring import sample_requests
from serving.ranker import Ranker
from serving.user_stores.bse.table_job import build_behavior_tables

pytestmark = pytest.mark.usefixtures("loaded_once")

runner = CliRunner()


@pytest.fixture(scope="module")
def work(cascade_work):
    return cascade_work


@pytest.fixture(scope="module")
def request_values(work):
    ranker = Ranker(work / "autoint")
    from tests.builders import cascade_example

    cascade = cascade_example.load(work, retrieve=50, coarse=50, top_k=4)
    (table,) = sample_requests(work / "raw" / "examples", work / "raw" / "behaviors", "eval", cascade, 1)
    return json_request(table.to_pylist()[0], ranker.spec)


@pytest.fixture(scope="module")
def store(work, tmp_path_factory):
    directory = tmp_path_factory.mktemp("store") / "autoint_bse"
    build_behavior_tables(work / "autoint", work / "raw" / "behaviors", directory)
    return directory


def refused(arguments, request) -> str:
    """Calls a command that must refuse; returns what it says."""
    result = runner.invoke(
        app, [*map(str, arguments)], input=request if isinstance(request, str) else json.dumps(request)
    )
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("clickmill: ") and "Traceback" not in result.output
    assert result.stdout == ""
    return result.stderr


def recommend(work, **changes):
    named = {
        "two-tower": work / "two_tower",
        "ranker": work / "autoint",
        "items": work / "raw" / "examples" / "catalogue" / "items.parquet",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return ["recommend", "-r", "-", *(part for name, value in named.items() for part in (f"--{name}", value))]


def without_candidates(request):
    return {part: values for part, values in request.items() if part != "candidates"}


@pytest.mark.parametrize("model", ["two_tower"])
def test_another_kind_of_model_given_as_the_ranker(work, request_values, model):
    assert str(work / model) in refused(["rank", "-m", work / model, "-r", "-"], request_values)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ranker": "two_tower"}, "two_tower"),
        ({"two_tower": "autoint"}, "autoint"),
        ({"two_tower": "autoint", "ranker": "two_tower"}, "t"),
        ({"coarse": "autoint"}, "autoint"),
        ({"coarse": "two_tower"}, "two_tower"),
    ],
)
def test_models_in_one_another_s_places(work, request_values, changes, named):
    changes = {place: work / model for place, model in changes.items()}
    assert named in refused(recommend(work, **changes), without_candidates(request_values))


def test_tables_for_a_ranker_that_takes_none(work, request_values, store):
    for model in ("hcn", "two_tower"):
        refused(["rank", "-m", work / model, "--tables", store, "-r", "-"], request_values)


@pytest.mark.parametrize("size", [0, 100, 5_000])
def test_a_model_that_is_cut_off(work, request_values, size, tmp_path):
    for name in ("autoint", "two_tower"):
        shutil.copytree(work / name, tmp_path / name)
        model = tmp_path / name / "1" / "saved_model.pb"
        model.write_bytes(model.read_bytes()[:size])
    assert str(tmp_path / "autoint") in refused(["rank", "-m", tmp_path / "autoint", "-r", "-"], request_values)
    cut = recommend(work, two_tower=tmp_path / "two_tower")
    assert str(tmp_path / "two_tower") in refused(cut, without_candidates(request_values))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(1000) + b"PAR1", b"item_id\n1\n"])
def test_items_that_are_no_parquet(work, request_values, content, tmp_path):
    items = tmp_path / "items.parquet"
    items.write_bytes(content)
    assert str(items) in refused(recommend(work, items=items), without_candidates(request_values))


@pytest.mark.parametrize(
    "user_id", ["1.5", "true", "[1]", '{"a": 1}', str(2**70), '"\\ud800"', str(-(2**63) - 1)], ids=str
)
def test_a_user_id_that_is_none(work, request_values, store, user_id):
    def with_user(request):
        text = json.dumps(request | {"user": {**request["user"], "user_id": "MARK"}})
        return text.replace('"MARK"', user_id)

    said = refused(["rank", "-m", work / "autoint", "--tables", store, "-r", "-"], with_user(request_values))
    assert "user_id" in said
    listed = with_user(without_candidates(request_values))
    assert "user_id" in refused(recommend(work, tables=store), listed)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 900 + "]" * 900, '{"user": ' * 400 + "{}" + "}" * 400, "9" * 5000]
)
def test_json_that_is_too_deep_or_too_long(work, text):
    refused(["rank", "-m", work / "autoint", "-r", "-"], text)
    refused(recommend(work), text)


def test_a_folder_as_the_request(work, tmp_path):
    said = refused(["rank", "-m", work / "autoint", "-r", tmp_path], "")
    assert said == f"clickmill: {tmp_path}: Is a directory.\n"
