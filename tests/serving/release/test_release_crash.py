"""SIGKILL before and after every step to the disk: of a publication, a promotion, a rollback, a prune."""

import subprocess
import sys

import pytest

from features import storage
from serving.release.contents import problems_of
from serving.release.labels import label_moves, promote, rollback
from serving.release.prune import plan_prune, prune
from serving.release.registry import Releases
from tests.serving.release.release_example import MODELS, push, release

# Does a work in children that kill themselves at the moments that matter (tests/builders/kill_points.py).
WORKER = """
import os, sys, tempfile
from serving.release.labels import promote, rollback
from serving.release.prune import prune
from serving.release.publish_release import publish_release
from serving.release.registry import Releases
from tests.builders.kill_points import run_children
from tests.serving.release.release_example import put_items

work = sys.argv[1]

def run(root, points):
    points.guard(os, "replace", "rename", "unlink", "rmdir", "mkdir", "fsync")
    points.guard(tempfile, "mkstemp")
    ids = Releases(root).ids()
    if work == "promote":
        promote(root, ids[1], "stable", by="test")
    elif work == "rollback":
        rollback(root, "stable", by="test")
    elif work == "prune":
        prune(root, 1)
    else:
        models = Releases(root).find("latest").models
        publish_release(root, models, items=put_items(root, "other items"), pipeline="shop")

run_children(sys.argv[2:], run)
"""


def work(what: str, roots: dict) -> str:
    arguments = [f"{root}={moment}" for root, moment in roots.items()]
    done = subprocess.run([sys.executable, "-c", WORKER, what, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def killed_at_every_moment(what: str, template: str, tmp_path) -> list[str]:
    """Does a work on copies of a root, killed at each moment in turn; returns the copies."""

    def copy(name: str) -> str:
        storage.copy_tree(template, str(tmp_path / name))
        return str(tmp_path / name)

    moments = int(work(what, {copy("whole"): -1}))
    assert moments > 8
    roots = {copy(f"at{moment}"): moment for moment in range(moments)}
    assert work(what, roots) == ""
    return list(roots)


@pytest.fixture
def template(tmp_path):
    """Three releases; `stable` went from the first to the third."""
    root = str(tmp_path / "template")
    made = [release(root, version, tables=False, items=f"items {version}") for version in (1, 2, 3)]
    for each in (made[0], made[2]):
        promote(root, each.id, "stable", by="before")
    return root


@pytest.mark.parametrize("what", ["promote", "rollback"])
def test_a_label_names_the_old_or_the_new_release_whole(what, template, tmp_path):
    ids = Releases(template).ids()
    old, new = ids[2], {"promote": ids[1], "rollback": ids[0]}[what]
    moved = 0
    for root in killed_at_every_moment(what, template, tmp_path):
        releases = Releases(root)
        found = releases.labelled("stable")
        assert found.id in (old, new) and problems_of(releases, found) == []
        moves = label_moves(releases)
        assert moves[-1].after == found.id and len(moves) == (3 if found.id == new else 2)
        moved += found.id == new
        # The lock died with its holder, and the way back is the one that took place.
        if found.id == ids[0]:
            assert promote(root, ids[1], "stable").before == ids[0]
        else:
            assert rollback(root, "stable").after == (old if found.id == new else ids[0])
        assert [move.after for move in label_moves(releases)][:2] == [ids[0], ids[2]]
    assert moved > 0


def test_a_release_is_published_whole_or_not_at_all(template, tmp_path):
    before = Releases(template).ids()
    published = 0
    for root in killed_at_every_moment("publish", template, tmp_path):
        releases = Releases(root)
        assert set(before) <= set(releases.ids()) and all(problems_of(releases, each) == [] for each in releases.all())
        published += len(releases.ids()) > len(before)
    assert published > 0


@pytest.mark.slow
def test_a_prune_leaves_whole_releases_and_the_next_one_ends_it(template, tmp_path):
    ids = Releases(template).ids()
    promote(template, ids[1], "canary")
    storage.write_text(storage.join(template, "labels.json"), f'{{"stable": "{ids[2]}", "canary": "{ids[2]}"}}')
    storage.delete(storage.join(template, "label_moves.jsonl"))
    push(template, "shop_hcn", 99)
    assert plan_prune(template, 1).releases == (ids[1], ids[0])
    undisturbed = None
    for root in killed_at_every_moment("prune", template, tmp_path):
        releases = Releases(root)
        for each in releases.all():
            assert problems_of(releases, each) == []
        assert releases.labelled("stable").id == ids[2]
        prune(root, 1)
        left = [path.removeprefix(root) for path in storage.files_under(root)]
        undisturbed = undisturbed or [
            path.removeprefix(f"{tmp_path}/whole") for path in storage.files_under(str(tmp_path / "whole"))
        ]
        assert [path for path in left if ".tmp" not in path] == undisturbed
    assert releases.ids() == [ids[2]]
    assert storage.entries(storage.join(template, "shop_hcn")) != [] and set(MODELS) > {"shop_hcn"}
