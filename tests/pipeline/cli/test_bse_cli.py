"""`clickmill bse`: each command on a real store and a real SavedModel; exit codes and clean messages."""

import json
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from serving.user_stores.bse.store import BseStore
from tests.builders.behavior_case import histories, write_log
from tests.builders.bse_example import build, table_of
from tests.serving.user_stores.bse.test_behavior_tables import INPUTS, expected_table, export

runner = CliRunner()
BEHAVIOR = json.dumps({"item_id": "item 4", "tags": [0]})


def call(*arguments):
    return runner.invoke(app, ["bse", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "1")


@pytest.mark.parametrize("command", [[], ["build"], ["get"], ["append"], ["verify"]], ids=" ".join)
def test_every_command_explains_itself(command):
    result = call(*command, "--help")
    assert result.exit_code == 0 and "Usage:" in result.output


def test_from_build_to_verify(tmp_path, model):
    users = histories(40)
    write_log(tmp_path / "log", users)
    store = tmp_path / "store"
    arguments = ("build", "--model", model, "--behaviors", tmp_path / "log", "--store", store)
    built = json.loads(call(*arguments, "--json").stdout)
    assert built["built"] and built["users"] > 30
    again = call(*arguments)
    assert again.exit_code == 0 and "nothing has changed" in again.output

    user = next(user for user, items in users.items() if expected_table(items).counts.any())
    shown = json.loads(call("get", "--store", store, "--user", user, "--json").stdout)
    np.testing.assert_allclose(shown["sums"], expected_table(users[user]).sums, atol=1e-5)
    behaviors = sum(shown["counts"][0])
    assert f"{behaviors} behaviours" in call("get", "--store", store, "--user", user).output

    one = ("append", "--store", store, "--model", model, "--user", user, "--behavior", BEHAVIOR)
    added = call(*one)
    assert added.exit_code == 0 and f"has {behaviors + 1} behaviours" in added.output
    assert f"has {behaviors} behaviours" in call(*one, "--expire").output
    new = call(*one[:6], "new user", *one[6:][1:])
    assert new.exit_code == 0 and "new user has 1 behaviours" in new.output

    verified = call("verify", "--store", store)
    assert verified.exit_code == 0 and "0 faults" in verified.output
    whole = json.loads(call("verify", "--store", store, "--json").stdout)
    assert whole["users"] == built["users"] + 1 and whole["version"] == "abc123" and whole["faults"] == []


def test_users_are_typed(tmp_path):
    build(tmp_path, users=range(3))
    assert call("get", "--store", tmp_path, "--user", 1, "--user-type", "int64").exit_code == 0
    none = call("get", "--store", tmp_path, "--user", 1)
    assert none.exit_code == 1 and "string user 1 has no long history" in none.output
    assert call("get", "--store", tmp_path, "--user", "x", "--user-type", "int64").exit_code == 2


def test_a_damaged_store_fails(tmp_path):
    build(tmp_path, users=range(30))
    data = os.path.realpath(tmp_path / "current" / "data.mdb")
    table = table_of(12)
    group, bucket = np.argwhere(table.counts)[0]
    with open(data, "r+b") as file:
        place = file.read().index(table.sums[group, bucket].tobytes())
        file.seek(place)
        file.write(bytes(4))
    found = call("verify", "--store", tmp_path)
    assert found.exit_code == 1 and "user 12: the checksum of a record is wrong" in found.output
    read = call("get", "--store", tmp_path, "--user", 12, "--user-type", "int64")
    assert read.exit_code == 2 and "checksum" in read.output
    os.truncate(data, 10_000)
    cut = call("verify", "--store", tmp_path)
    assert cut.exit_code == 2 and "cut off" in cut.output


def test_mistakes_are_one_message(tmp_path, model):
    for result, named in (
        (call("verify", "--store", tmp_path / "none"), "no BSE store"),
        (call("build", "--model", tmp_path, "--behaviors", tmp_path, "--store", tmp_path), "Push a model first"),
        (call("build", "--model", model, "--behaviors", tmp_path, "--store", tmp_path), "ingest first"),
    ):
        assert result.exit_code == 2 and named in result.output and "Traceback" not in result.output
    plain = export(tmp_path / "plain", INPUTS.model_copy(update={"simhash": None, "dim": None}))
    result = call("build", "--model", plain, "--behaviors", tmp_path, "--store", tmp_path / "store")
    assert result.exit_code == 2 and "no bucket tables" in " ".join(result.output.split())


def test_a_behaviour_of_another_ranker_is_refused(tmp_path, model):
    build(tmp_path, "other", users=range(3))
    result = call("append", "--store", tmp_path, "--model", model, "--user", "a", "--behavior", BEHAVIOR)
    assert result.exit_code == 2 and "'abc123'. It holds: other" in result.output
    with BseStore(tmp_path) as store:
        assert len(store) == 3


@pytest.mark.parametrize(
    "behavior, code, named",
    [
        ("{", 2, "not valid JSON"),
        ("[1]", 2, "object"),
        ('{"item_id": "item 1"}', 2, "must hold item_id, tags"),
        ('{"item_id": "item 1", "tags": ["x"]}', 2, "int64"),
        ('{"item_id": "item 1", "tags": 3}', 2, "its values must be lists"),
        ('{"item_id": "item 1", "tags": ["x", 1]}', 2, "raw values"),
        ('{"item_id": "item 1", "tags": [99999999999999999999]}', 2, "raw values"),
        ('{"item_id": "item 9", "tags": null}', 1, "no signature"),
    ],
)
def test_behaviours_that_cannot_be_added(tmp_path, model, behavior, code, named):
    write_log(tmp_path / "log", histories(20))
    call("build", "--model", model, "--behaviors", tmp_path / "log", "--store", tmp_path / "store")
    result = call("append", "--store", tmp_path / "store", "--model", model, "--user", "a", "--behavior", behavior)
    assert result.exit_code == code and named in " ".join(result.output.split())
    absent = call(
        "append", "--store", tmp_path / "store", "--model", model, "--user", "a", "--expire",
        "--behavior", BEHAVIOR,
    )  # fmt: skip
    assert absent.exit_code == 1 and "not in the table" in " ".join(absent.output.split())
