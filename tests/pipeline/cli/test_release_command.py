"""`clickmill release …`: what each command prints, for people and as JSON, and how it ends."""

import functools
import json

import pytest
from typer.testing import CliRunner

from features import storage
from pipeline.cli.app import app
from serving.release.registry import Releases
from tests.serving.release.release_example import release


def on_root(group: str, root: str, *arguments: str, code: int = 0):
    """What a command of a group says of a serving root, parsed where it is JSON, once it has ended by the code."""
    result = CliRunner().invoke(app, [group, *arguments, "--root", root], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return json.loads(result.stdout) if "--json" in arguments else result.output


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "serving_models")


@pytest.fixture
def run(root):
    return functools.partial(on_root, "release", root)


def test_releases_are_listed_the_newest_first(root, run, tmp_path):
    (tmp_path / "serving_models").mkdir()
    assert run("list", "--json") == [] and "holds no release. `clickmill run`" in run("list")
    one, two = release(root, 1), release(root, 2)
    assert "stable names " + one.id in run("promote", one.id, "--by", "ada")
    rows = run("list", "--json")
    assert [row["id"] for row in rows] == [two.id, one.id] and [row["labels"] for row in rows] == [[], ["stable"]]
    assert rows[0]["models"] == {"shop_two_tower": 2, "shop_hcn": 2, "shop_autoint": 2}
    text = run("list")
    assert text.index(two.id) < text.index(one.id) and "shop_autoint 2" in text and "stable" in text


def test_a_release_is_shown_with_what_is_wrong_with_it(root, run):
    one = release(root, 1, spec="a" * 64)
    run("promote", "latest", "--label", "canary", "--by", "ben")
    text = run("show", "canary")
    for part in (one.id, "labels: canary", "by a test", "auc 0.7000", "v1", "300 → 30 → 3 items", "promote by ben"):
        assert part in text, part
    assert "all files are there and unchanged" in text and "a" * 64 in text
    told = run("show", one.id, "--json")
    assert told["release"] == one.model_dump(mode="json") and told["problems"] == []
    assert told["moves"][0]["by"] == "ben"
    storage.delete(storage.join(root, "shop_hcn", "1"))
    assert "shop_hcn/1 is missing, version 1 of shop_hcn." in run("show", one.id, code=1)
    assert run("show", one.id, "--json", code=1)["problems"] and "missing" not in run("show", one.id, "--no-check")


def test_there_and_back(root, run):
    one, two = release(root, 1), release(root, 2)
    run("promote", one.id)
    assert f"stable names {two.id}, {one.id} before" in run("promote", "latest")
    assert f"stable names {two.id} already" in run("promote", two.id)
    assert f"stable names {one.id}, {two.id} before" in run("rollback")
    assert "no release that it named before" in run("rollback", code=2)
    assert run("promote", one.id, "--json") == {"move": None}
    assert run("promote", two.id, "--json", "--by", "ada")["move"]["by"] == "ada"
    assert run("rollback", "--json")["move"]["after"] == one.id
    storage.delete(storage.join(root, "shop_hcn", "2"))
    assert "cannot be served, and `stable` stays as it is" in run("promote", two.id, code=1)
    assert Releases(root).labels() == {"stable": one.id}
    other = release(root, 3, pipeline="books")
    assert "use --force" in run("promote", other.id, code=2)
    run("promote", other.id, "--force")


def test_prune_says_what_it_deletes_and_a_dry_run_deletes_nothing(root, run):
    made = [release(root, version) for version in range(1, 5)]
    run("promote", made[1].id)
    before = sorted(storage.files_under(root))
    text = run("prune", "--keep", "1", "--dry-run")
    assert f"would be deleted: release {made[0].id}" in text and "would be deleted: model shop_hcn/3" in text
    assert f"kept: {made[1].id}, `stable` names it" in text and "2 releases would be deleted" in text
    assert "would be deleted: tables shop_autoint_bse/v1" in text
    planned = run("prune", "--keep", "1", "--dry-run", "--json")
    assert sorted(storage.files_under(root)) == before and planned["deleted"] is False
    done = run("prune", "--keep", "1", "--json")
    assert done == planned | {"deleted": True} and done["num_bytes"] > 0
    assert Releases(root).ids() == [made[1].id, made[3].id]
