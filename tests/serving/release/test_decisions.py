"""Every decision on what is served is on record: who, why, on what evidence; whole lines, only ever added to."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from features.config import SpecError
from serving.release.decisions import decide, read_decisions
from serving.release.labels import promote, rollback
from serving.release.lock import locked
from serving.release.prune import prune
from tests.serving.release.release_example import release


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    return str(tmp_path / "serving") if request.param == "local" else f"memory://{tmp_path.name}"


def test_every_command_leaves_its_decision(tmp_path):
    root = str(tmp_path)
    zero, one, two = (release(root, version, tables=False) for version in range(3))
    promote(root, one.id, "stable", by="ada", why="first")
    promote(root, two.id, "stable", by="ada")
    rollback(root, "stable", by="ben", why="PCOC of 1.4 on the phone")
    promote(root, two.id, "stable", by="ada", why="mended")
    release(root, 3, tables=False)
    prune(root, 1)
    made = read_decisions(root)
    moves = ["promote", "promote", "rollback", "promote"]
    assert [each.how for each in made] == [*["release"] * 3, *moves, "release", "prune"]
    back = made[5]
    assert (back.by, back.what, back.why) == ("ben", one.id, "PCOC of 1.4 on the phone")
    assert back.evidence == {
        "label": "stable",
        "before": two.id,
        "metrics": one.metrics,
        "allowed_by": one.allowed_by,
    }
    assert made[1].evidence["models"] == {"shop_two_tower": 1, "shop_hcn": 1, "shop_autoint": 1}
    assert made[0].why == one.allowed_by and "@" in made[0].by
    assert made[-1].evidence["releases"] == [zero.id]
    assert [each.how for each in read_decisions(root, one.id)] == ["release", "promote", "rollback"]


def test_a_log_is_only_added_to(root):
    assert read_decisions(root) == []
    for number in range(3):
        decide(root, "promote", f"r{number}", by="ä", why="one\nline", evidence={"n": number})
    made = read_decisions(root)
    assert [each.what for each in made] == ["r0", "r1", "r2"] and made[0].why == "one\nline"
    assert [each.evidence["n"] for each in read_decisions(root, "r1")] == [1]


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_line_that_a_crash_cut_short_never_was(tmp_path, cut):
    root = str(tmp_path)
    decide(root, "promote", "one", evidence={})
    log = Path(root) / "decisions.jsonl"
    whole = log.read_bytes()
    decide(root, "promote", "two", evidence={})
    log.write_bytes(log.read_bytes()[:-cut])
    assert [each.what for each in read_decisions(root)] == ["one"]
    decide(root, "promote", "three", evidence={})
    assert [each.what for each in read_decisions(root)] == ["one", "three"]
    assert log.read_bytes().startswith(whole) and len(log.read_text().splitlines()) == 2


def test_a_damaged_line_is_named(tmp_path):
    log = tmp_path / "decisions.jsonl"
    log.write_text('{"at": 1\n')
    with pytest.raises(SpecError, match="decisions.jsonl:1: not valid JSON"):
        read_decisions(tmp_path)
    log.write_text(json.dumps({"how": "guess"}) + "\n")
    with pytest.raises(SpecError, match="decisions.jsonl:1"):
        read_decisions(tmp_path)


def _write(root, name, count):
    for number in range(count):
        with locked(root):
            decide(root, "promote", f"{name}-{number}", evidence={"text": "x" * 5000})


def test_writers_do_not_mix_their_lines(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(str(tmp_path), name, 20)) for name in "ab"]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    made = [each.what for each in read_decisions(tmp_path)]
    assert sorted(made) == sorted(f"{name}-{number}" for name in "ab" for number in range(20))
    for name in "ab":
        assert [each for each in made if each[0] == name] == [f"{name}-{number}" for number in range(20)]


def test_a_decision_is_on_disk_when_it_was_made(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), fsync(descriptor)))
    decide(str(tmp_path), "promote", "one", evidence={})
    assert len(synced) == 2, "the file, and its name in the folder"
