"""Promote and rollback: what labels name afterwards, what is refused, what history says, and prune beside them."""

import json
import os
import subprocess
import sys

import pytest

from features import storage
from features.config import SpecError
from features.errors import InputError, NotFoundError, RunError
from serving.release.contents import problems_of
from serving.release.labels import MOVES_FILE, label_moves, promote, rollback, rollback_target
from serving.release.prune import plan_prune, prune
from serving.release.registry import Releases
from serving.user_stores.builds import versions
from tests.serving.release.release_example import MODELS, push, put_profiles, release


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "serving_models")


def test_labels_move_and_history_says_who_moved_them(root):
    one, two = release(root, 1), release(root, 2)
    first = promote(root, one.id, "stable", by="ada")
    assert (first.before, first.after, first.by, first.how) == (None, one.id, "ada", "promote")
    promote(root, "latest", "canary", by="ben")
    second = promote(root, "canary", "stable", by="ada")
    assert (second.before, second.after) == (one.id, two.id)
    assert promote(root, two.id, "stable") is None, "it is there already"
    releases = Releases(root)
    assert releases.labels() == {"stable": two.id, "canary": two.id} and releases.labelled("stable") == two
    assert json.loads(storage.read_text(storage.join(root, "labels.json"))) == releases.labels()
    back = rollback(root, "stable")
    assert (back.before, back.after, back.how) == (two.id, one.id, "rollback") and "@" in back.by
    assert releases.labels() == {"stable": one.id, "canary": two.id}
    moves = label_moves(releases)
    assert [(move.label, move.how, move.by) for move in moves[:3]] == [
        ("stable", "promote", "ada"),
        ("canary", "promote", "ben"),
        ("stable", "promote", "ada"),
    ]
    assert len(moves) == 4 and all(move.at.endswith("+00:00") for move in moves)


def test_rolling_back_again_goes_further_back_and_stops_at_the_first(root):
    made = [release(root, version, tables=False) for version in range(1, 5)]
    for each in made:
        promote(root, each.id, "stable")
    assert [rollback(root, "stable").after for _ in range(3)] == [each.id for each in made[2::-1]]
    with pytest.raises(InputError, match="no release that it named before is known"):
        rollback(root, "stable")
    # What was rolled back from is promoted again: back from there is where it stood.
    promote(root, made[3].id, "stable")
    assert rollback_target(label_moves(Releases(root)), "stable") == made[0].id
    with pytest.raises(NotFoundError, match="no label `canary`. The labels there: stable"):
        rollback(root, "canary")


@pytest.mark.parametrize("label", ["", "Stable", "latest", "../x", "1st", "a b", "stable\n"])
def test_what_cannot_be_a_label(root, label):
    made = release(root, 1, tables=False)
    with pytest.raises(InputError, match="a label is small letters"):
        promote(root, made.id, label)
    assert Releases(root).labels() == {}


def test_a_release_that_is_not_whole_is_refused_both_ways(root):
    one, two = release(root, 1), release(root, 2)
    promote(root, one.id, "stable")
    graph = storage.join(root, "shop_hcn", "2", "saved_model.pb")
    held = storage.read_bytes(graph)
    storage.delete(graph)
    with pytest.raises(RunError, match=f"{two.id} cannot be served, and `stable` stays as it is: .*shop_hcn/2"):
        promote(root, two.id, "stable")
    assert Releases(root).labels() == {"stable": one.id} and len(label_moves(Releases(root))) == 1
    storage.write_bytes(graph, held)
    promote(root, two.id, "stable")
    storage.write_text(storage.join(root, "shop_hcn", "1", "saved_model.pb"), "other")
    with pytest.raises(RunError, match="saved_model.pb has changed since it was released"):
        rollback(root, "stable")
    assert Releases(root).labels() == {"stable": two.id}


def test_a_label_leaves_a_release_that_is_gone_or_damaged(root):
    one, two = release(root, 1, tables=False), release(root, 2, tables=False)
    promote(root, one.id, "stable")
    promote(root, two.id, "stable")
    storage.write_text(Releases(root).manifest_path(two.id), "{")
    assert rollback(root, "stable").after == one.id
    storage.delete(Releases(root).manifest_path(two.id))
    storage.write_text(Releases(root).manifest_path(one.id), "{")
    three_id = "29991126T073000-1f2e3d4c"
    text = two.model_copy(update={"id": three_id}).model_dump_json()
    storage.write_text(Releases(root).manifest_path(three_id), text)
    assert promote(root, three_id, "stable").before == one.id


def test_a_label_stays_with_its_pipeline_unless_forced(root):
    one, other = release(root, 1, tables=False), release(root, 2, tables=False, pipeline="books")
    promote(root, one.id, "stable")
    with pytest.raises(InputError, match="of the pipeline `shop`, and .* is one of `books`"):
        promote(root, other.id, "stable")
    promote(root, other.id, "books-stable")
    assert promote(root, other.id, "stable", force=True).after == other.id


def test_a_move_that_never_took_place_is_no_history(root):
    """A writer was killed between the history and the labels."""
    one, two = release(root, 1, tables=False), release(root, 2, tables=False)
    promote(root, one.id, "stable")
    promote(root, two.id, "stable")
    storage.write_text(storage.join(root, "labels.json"), json.dumps({"stable": one.id}))
    assert [move.after for move in label_moves(Releases(root))] == [one.id]
    promote(root, two.id, "canary")
    assert [(move.label, move.after) for move in label_moves(Releases(root))] == [
        ("stable", one.id),
        ("canary", two.id),
    ]
    storage.write_text(storage.join(root, MOVES_FILE), "nonsense\n")
    with pytest.raises(SpecError, match=MOVES_FILE):
        label_moves(Releases(root))


PROMOTER = """
import sys
from serving.release.labels import promote
root, *names = sys.argv[1:]
sys.stdin.readline()
for number in range(30):
    promote(root, names[number % 2], "stable")
"""


def test_of_concurrent_promotions_the_last_wins_and_none_is_half(root):
    made = [release(root, version, tables=False) for version in range(1, 5)]
    ids = [each.id for each in made]
    promote(root, ids[0], "canary")
    run = [sys.executable, "-c", PROMOTER, root]
    writers = [
        subprocess.Popen([*run, *pair], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for pair in (ids[:2], ids[2:])
    ]
    try:
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        releases, seen = Releases(root), set()
        while any(writer.poll() is None for writer in writers):
            labels = releases.labels()
            assert labels["canary"] == ids[0]
            if "stable" in labels:
                seen.add(releases.labelled("stable").id)
        assert [writer.wait() for writer in writers] == [0, 0], [writer.stderr.read() for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert seen <= set(ids) and seen
    moves = [move for move in label_moves(releases) if move.label == "stable"]
    # Every move starts where the one before ended: nobody overwrote what he had not seen.
    assert [move.before for move in moves] == [None, *(move.after for move in moves[:-1])]
    assert moves[-1].after == releases.labels()["stable"]


def test_prune_keeps_what_labels_name_and_the_newest(root):
    made = [release(root, version) for version in range(1, 8)]
    promote(root, made[1].id, "stable")
    promote(root, made[2].id, "stable")
    promote(root, made[0].id, "canary")
    push(root, "shop_hcn", 99)  # alone
    before = sorted(storage.files_under(root))
    plan = plan_prune(root, 2)
    assert plan.kept == {
        made[6].id: "among the newest 2",
        made[5].id: "among the newest 2",
        made[2].id: "`stable` names it",
        made[1].id: "`stable` would go back to it",
        made[0].id: "`canary` names it",
    }
    assert plan.releases == (made[4].id, made[3].id)
    assert plan.models == tuple(sorted(f"{name}/{version}" for name in MODELS for version in (4, 5)))
    assert plan.tables == ("shop_autoint_bse/v4", "shop_autoint_bse/v5") and plan.catalogues == ()
    gone = [file for file in before if any(f"/{model}/" in file for model in plan.models)]
    assert plan.num_bytes == sum(map(storage.size, gone))
    assert sorted(storage.files_under(root)) == before, "a plan deletes nothing"
    assert prune(root, 2) == plan
    releases = Releases(root)
    assert [each.id for each in releases.all()] == list(plan.kept)
    assert all(problems_of(releases, each) == [] for each in releases.all())
    assert storage.is_folder(storage.join(root, "shop_hcn", "99"))
    left = set(storage.files_under(root))
    assert not left & set(gone) and not storage.exists(storage.join(root, "releases", "withdrawn"))
    assert versions(storage.join(root, "shop_autoint_bse")) == ["v1", "v2", "v3", "v6", "v7"]
    assert prune(root, 2).releases == () and set(storage.files_under(root)) == left
    assert rollback(root, "stable").after == made[1].id


def test_prune_keeps_the_newest_of_each_pipeline_and_what_they_share(root):
    old = release(root, 1, tables=False, items="old items")
    books = release(root, 2, tables=False, pipeline="books")
    kept = [model.model_copy(update={"kept": True}) for model in old.models]
    from serving.release.publish_release import publish_release

    new = publish_release(root, kept, pipeline="shop")
    plan = prune(root, 1)
    assert set(plan.kept) == {books.id, new.id} and plan.releases == (old.id,)
    assert plan.models == () and plan.catalogues == (old.catalogue,)
    assert not storage.exists(storage.parent(Releases(root).path(old.catalogue)))
    assert problems_of(Releases(root), new) == []
    with pytest.raises(InputError, match="`keep` must be positive"):
        prune(root, 0)


def test_prune_leaves_the_tables_that_a_store_names_as_current(root):
    release(root, 2)
    release(root, 1)  # an older version was built again: it is current
    assert os.readlink(storage.join(root, "shop_autoint_bse", "current")) == "v1"
    release(root, 3, tables=False)
    assert prune(root, 1).tables == ("shop_autoint_bse/v2",)
    assert versions(storage.join(root, "shop_autoint_bse")) == ["v1"]


def test_profiles_are_checked_and_pruned_as_tables_are(root):
    old, new = (release(root, number, profiles=put_profiles(root, f"p{number}")) for number in (1, 2))
    releases = Releases(root)
    assert problems_of(releases, new) == [] and new.profiles == "shop_profiles/p2"
    plan = prune(root, 1)
    assert plan.releases == (old.id,) and plan.tables == ("shop_autoint_bse/v1", "shop_profiles/p1")
    assert versions(storage.join(root, "shop_profiles")) == ["p2"] and problems_of(releases, new) == []
    storage.delete(storage.join(root, "shop_profiles"))
    (problem,) = problems_of(releases, new)
    assert "users' profiles" in problem and "clickmill profiles build" in problem
    with pytest.raises(RunError, match="clickmill profiles build"):
        release(root, 3, profiles="shop_profiles/p2")


def test_prune_stops_before_it_deletes_where_a_manifest_cannot_be_read(root):
    release(root, 1, tables=False)
    release(root, 2, tables=False)
    storage.write_text(Releases(root).manifest_path("29991126T073000-1f2e3d4c"), "{")
    before = sorted(storage.files_under(root))
    with pytest.raises(SpecError, match="29991126T073000-1f2e3d4c"):
        prune(root, 1)
    assert [file for file in sorted(storage.files_under(root)) if not file.endswith(".lock")] == [
        file for file in before if not file.endswith(".lock")
    ]
