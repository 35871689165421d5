"""The profile store: built from a real ingest, read, appended to, checked; the command line over it."""

import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from features.errors import InputError, NotFoundError
from pipeline.cli.app import app
from serving.user_stores.environment import StoreError
from serving.user_stores.profiles.build import build_profiles, profile_version
from serving.user_stores.profiles.store import ProfileStore, open_profiles
from tests.builders.ingest_case import HOUR, ITEMS, SPEC, Case, T, clicks, impressions

runner = CliRunner()
USERS = pa.table({"user_id": ["ann", "bob", "cid", "eve"], "city": ["Oslo", None, "Łódź", "Bergen"]})
SHOWN = impressions([(f"r{n}", T + n * HOUR, user, 1 + n % 4) for n, user in enumerate(["ann"] * 6 + ["dan", "bob"])])
CLICKED = clicks([(f"r{n}", 1 + n % 4, T + n * HOUR + 1000) for n in (0, 1, 2, 4, 5, 6)])


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """An ingest of two shards: `examples` and `behaviors`."""
    tables = {"impressions": SHOWN, "clicks": CLICKED, "items": ITEMS, "users": USERS}
    return Case(tmp_path_factory.mktemp("ingest"), tables).examples.parent


def build(log, store, **options):
    return build_profiles(SPEC, log / "examples", log / "behaviors", store, **options)


def test_the_store_holds_what_the_log_says_of_each_user(log, tmp_path):
    built = build(log, tmp_path)
    assert built["built"] and (built["users"], built["users_without_features"], built["behaviors"]) == (5, 1, 6)
    with ProfileStore(tmp_path, profile_version(SPEC)) as store:
        assert store.verify().num_faults == 0 and store.verify().behaviors == 6
        assert sorted(store.users()) == ["ann", "bob", "cid", "dan", "eve"]
        ann = store.get("ann")
        assert ann.features == {"city": "Oslo"} and [each["item_id"] for each in ann.behaviors] == [1, 2, 3, 1, 2]
        assert ann.behaviors[0] == {"timestamp": T + 1000, "item_id": 1, "tags": ["x", "y"]}
        assert [each["item_id"] for each in store.get("ann", last=2).behaviors] == [1, 2]
        assert store.get("bob").features == {} and store.get("bob").behaviors == []
        assert store.get("dan").features == {} and len(store.get("dan").behaviors) == 1
        assert store.get("eve").features == {"city": "Bergen"}
        assert store.get("zoe") is None


def test_a_profile_keeps_the_newest_before_a_time(log, tmp_path):
    build(log, tmp_path, length=2, as_of=T + 4 * HOUR)
    with ProfileStore(tmp_path) as store:
        assert [each["item_id"] for each in store.get("ann").behaviors] == [2, 3]
        assert store.layout.length == 2 and store.header["as_of"] == T + 4 * HOUR


def test_nothing_is_built_twice(log, tmp_path):
    first = build(log, tmp_path)
    assert build(log, tmp_path) == {**first, "built": False}
    assert build(log, tmp_path, force=True)["built"] and build(log, tmp_path, length=1)["built"]


def test_appending_to_a_profile(log, tmp_path):
    build(log, tmp_path, length=3)
    later = {"timestamp": T + 99 * HOUR, "item_id": 4, "tags": ["x"]}
    with ProfileStore(tmp_path) as store, ProfileStore(tmp_path, follow=True) as reader:
        assert [outcome.value for outcome in store.append("ann", [later, later])] == ["added", "repeated"]
        assert reader.get("ann").behaviors[-1] == later and reader.get("ann").features == {"city": "Oslo"}
        assert [each["item_id"] for each in reader.get("ann").behaviors] == [1, 2, 4]
        store.append("u" * 600, [later])
        assert reader.get("u" * 600).behaviors == [later] and "u" * 600 in list(reader.users())
        with pytest.raises(StoreError, match="opened to follow"):
            reader.append("ann", [later])


def test_what_is_missing_or_damaged_is_said(log, tmp_path):
    with pytest.raises(NotFoundError, match="no profile store.*clickmill profiles build"):
        ProfileStore(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="ingest first"):
        build_profiles(SPEC, log / "examples", tmp_path, tmp_path / "store")
    with pytest.raises(InputError, match="STORE/VERSION"):
        open_profiles("alone")
    build(log, tmp_path / "store")
    with pytest.raises(StoreError, match="no profiles of the features 'v2'"):
        ProfileStore(tmp_path / "store", "v2")
    with ProfileStore(tmp_path / "store") as store:
        environment = store._opened.environment
        environment.write(lambda transaction: transaction.put(b"sann", b"\0\0\0\0{}", db=environment.records))
        with pytest.raises(StoreError, match="user 'ann': the checksum"):
            store.get("ann")
        assert [user for user, _ in store.verify().faults] == ["ann"]


def test_users_of_another_ingest_are_refused(log, tmp_path):
    with pytest.raises(InputError, match="two ingests"):
        files = sorted((log / "behaviors").glob("*.parquet"))
        (tmp_path / "behaviors").mkdir()
        (tmp_path / "behaviors" / "behaviors-00000-of-00001.parquet").write_bytes(files[0].read_bytes())
        build_profiles(SPEC, log / "examples", tmp_path / "behaviors", tmp_path / "store")


def test_the_version_is_that_of_the_features():
    city = SPEC.features[1]
    other = SPEC.model_copy(update={"features": (SPEC.features[0], *SPEC.features[2:], city)})
    renamed = SPEC.model_copy(update={"features": (*SPEC.features[2:], city.model_copy(update={"name": "town"}))})
    assert profile_version(SPEC) == profile_version(other) != profile_version(renamed)


def test_the_commands(log, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.model_dump_json())  # JSON is YAML

    def call(*arguments):
        return runner.invoke(app, ["profiles", *map(str, arguments)])

    arguments = ("build", "--spec", spec, "--examples", log / "examples", "--behaviors", log / "behaviors")
    built = call(*arguments, "--store", tmp_path / "store", "--json")
    assert built.exit_code == 0 and json.loads(built.stdout)["users"] == 5
    assert "nothing has changed" in call(*arguments, "--store", tmp_path / "store").output
    shown = json.loads(call("get", "--store", tmp_path / "store", "--user", "ann", "--json").stdout)
    assert shown["features"] == {"city": "Oslo"} and len(shown["behaviors"]) == 5
    table = call("get", "--store", tmp_path / "store", "--user", "ann")
    assert "city: Oslo" in table.output and "5 behaviours" in table.output
    assert call("get", "--store", tmp_path / "store", "--user", "zoe").exit_code == 1
    verified = call("verify", "--store", tmp_path / "store")
    assert verified.exit_code == 0 and "5 users, 6 behaviours" in verified.output
    assert json.loads(call("verify", "--store", tmp_path / "store", "--json").stdout)["num_faults"] == 0
    assert call("verify", "--store", tmp_path / "nowhere").exit_code == 2
