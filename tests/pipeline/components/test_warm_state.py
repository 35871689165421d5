"""Which training a training begins with: the latest that was pushed before its day, and whose state is still there."""

from __future__ import annotations

import pytest

from features import storage
from pipeline.components.training.warm_state import StatePointer, find_state
from pipeline.release.anchor import GRAPH_FILE


@pytest.fixture()
def pushed(tmp_path):
    """Three days' versions, 1 to 3, each with its state."""
    for version, span in ((1, 20261101), (2, 20261102), (3, 20261103)):
        folder = tmp_path / "pushed" / str(version)
        storage.write_text(folder / GRAPH_FILE, "")
        state = tmp_path / "states" / str(span)
        storage.write_text(state / "state.json", "{}")
        StatePointer(directory=str(state), examples=f"examples-{span}", span=span).save(folder)
    return tmp_path / "pushed"


def found(pushed, examples: str, span: int) -> str | None:
    state = find_state(pushed, examples, span)
    return None if state is None else storage.name(state)


def test_the_latest_of_an_earlier_day(pushed):
    assert found(pushed, "new", 20261104) == "20261103"
    assert found(pushed, "new", 20261103) == "20261102"  # a day that is run again begins where it began
    assert found(pushed, "new", 20261101) is None
    assert find_state(pushed / "nothing", "new", 20261104) is None


def test_without_days_the_latest_on_other_examples(pushed):
    assert found(pushed, "new", 0) == "20261103"
    assert found(pushed, "examples-20261103", 0) == "20261102"


def test_a_state_that_was_deleted_is_passed_over(pushed):
    storage.delete(pushed.parent / "states" / "20261103")
    storage.delete(pushed / "2" / "assets.extra")
    assert found(pushed, "new", 20261104) == "20261101"


def test_a_day_that_was_run_late_sets_no_later_one_back(pushed):
    storage.write_text(pushed / "4" / GRAPH_FILE, "")
    storage.write_text(pushed.parent / "states" / "again" / "state.json", "{}")
    StatePointer(directory=str(pushed.parent / "states" / "again"), examples="again", span=20261102).save(pushed / "4")
    assert found(pushed, "new", 20261104) == "20261103"
    assert found(pushed, "new", 20261103) == "again"
