"""The anchor on disk: what it is at each step of a row of pushes, what outlives what, and who is compared with it."""

import json

import pytest

from features.errors import NotFoundError
from pipeline.components.evaluators.live_model import find_compared_models
from pipeline.release.anchor import anchor_dir, find_anchor, move_anchor, read_anchors, set_anchor


def export(path, identity: str):
    """A SavedModel as far as files go."""
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "fingerprint.pb").write_bytes(identity.encode())
    (path / "variables" / "variables.index").write_text(identity)
    return path


@pytest.fixture
def push(tmp_path):
    """Pushes a model of a new identity under a version; returns where it was trained to."""

    def pushed(version: int, identity: str | None = None):
        identity = identity or f"model {version}"
        export(tmp_path / "serving" / "shop_autoint" / str(version), identity)
        return export(tmp_path / "trained" / str(version), identity)

    return pushed


@pytest.fixture
def serving(tmp_path):
    return tmp_path / "serving" / "shop_autoint"


def test_the_anchor_lies_beside_the_served_versions_and_outlives_them(push, serving):
    import shutil

    trained = push(7)
    made = move_anchor(serving, trained, "7", "It is the first.")
    assert [path.name for path in serving.iterdir()] == ["7"], "TF Serving watches this folder"
    shutil.rmtree(serving / "7")
    shutil.rmtree(trained)
    ((folder, record),) = read_anchors(serving)
    assert folder == f"{serving}_anchor/7" and record == made and record.why == "It is the first."
    kept = json.loads((serving.parent / "shop_autoint_anchor" / "7" / "anchor.json").read_text())
    assert kept["version"] == "7" and kept["since"].endswith("+00:00")
    assert (serving.parent / "shop_autoint_anchor" / "7" / "variables" / "variables.index").read_text() == "model 7"


def test_a_candidate_meets_the_same_two_models_before_and_after_its_own_push(push, serving):
    """Otherwise a second run would judge, and push, the same model again."""
    none = {"live_model": "", "anchor_model": ""}
    first = export(serving.parent / "first", "model 1")
    assert find_compared_models(serving, first) == none
    push(1)
    move_anchor(serving, first, "1", "first")
    assert find_compared_models(serving, first) == none

    second = export(serving.parent / "second", "model 2")
    before = find_compared_models(serving, second)
    # The anchor is the live model: one path, so that it is scored once.
    assert before == {"live_model": f"{serving}/1", "anchor_model": f"{serving}/1"}
    push(2)
    move_anchor(serving, second, "2", "better")
    assert find_compared_models(serving, second) == before

    third = export(serving.parent / "third", "model 3")
    assert find_compared_models(serving, third)["anchor_model"] == f"{serving}/2"
    push(3)  # no better: the anchor stays
    fourth = export(serving.parent / "fourth", "model 4")
    before = find_compared_models(serving, fourth)
    assert before == {"live_model": f"{serving}/3", "anchor_model": f"{serving}_anchor/2"}
    push(4)
    move_anchor(serving, fourth, "4", "better")
    assert find_compared_models(serving, fourth) == before
    # The anchor and the one before it; no more.
    assert [record.version for _, record in read_anchors(serving)] == ["4", "2"]


def test_another_anchor_means_another_evaluation(push, serving):
    for version in (1, 2, 3):
        push(version)
    candidate = export(serving.parent / "candidate", "model 9")
    without = find_compared_models(serving, candidate)
    assert without == {"live_model": f"{serving}/3", "anchor_model": ""}
    assert set_anchor(serving, "1").why == "It was set by hand."
    assert find_compared_models(serving, candidate) == without | {"anchor_model": f"{serving}_anchor/1"}
    assert set_anchor(serving).version == "3"
    assert find_compared_models(serving, candidate) == without | {"anchor_model": f"{serving}/3"}
    # Set to an earlier one, although its number is lower.
    set_anchor(serving, "2")
    assert find_anchor(serving, candidate) == f"{serving}_anchor/2"
    with pytest.raises(NotFoundError, match="no pushed version 8. Versions there: 3, 2, 1"):
        set_anchor(serving, "8")


def test_what_is_half_written_is_no_anchor(push, serving):
    move_anchor(serving, push(1), "1", "first")
    half = serving.parent / "shop_autoint_anchor" / "2"
    half.mkdir()
    (half / "anchor.json").write_text('{"version": "2", "why": "", "since": "9999"}')
    (serving.parent / "shop_autoint_anchor" / ".3.x.tmp").mkdir()
    assert [record.version for _, record in read_anchors(serving)] == ["1"]
    assert anchor_dir(f"{serving}/") == f"{serving}_anchor"


def test_an_anchor_on_an_object_store():
    from features import storage

    push_dir = "memory://anchors/shop_two_tower"
    for identity in "ab":
        for name, text in (("saved_model.pb", "graph"), ("fingerprint.pb", identity), ("assets.extra/x.json", "{}")):
            storage.write_text(storage.join(push_dir, "1" if identity == "a" else "2", name), text)
    assert set_anchor(push_dir, "1").version == "1"
    candidate = storage.join(push_dir, "2")
    assert find_anchor(push_dir, candidate) == "memory://anchors/shop_two_tower_anchor/1"
    assert storage.read_text(storage.join(find_anchor(push_dir, candidate), "assets.extra/x.json")) == "{}"
    assert find_compared_models(push_dir, candidate)["anchor_model"] == "memory://anchors/shop_two_tower/1"
