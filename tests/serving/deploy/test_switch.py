"""A switch, played by the rules of TensorFlow Serving: no reload is refused, no label is ever without its version."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from serving.deploy.served import ServedModel
from serving.deploy.switch import switch_steps

NAMES, LABELS, VERSIONS = ("a", "b", "c"), ("stable", "canary"), st.integers(1, 4)


@st.composite
def served(draw):
    """Models with labelled versions, and now and then a version without a label."""
    found = {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        labels = draw(st.dictionaries(st.sampled_from(LABELS), VERSIONS))
        versions = {*labels.values(), *draw(st.sets(VERSIONS, min_size=0 if labels else 1, max_size=2))}
        found[name] = ServedModel(frozenset(versions), labels)
    return found


class ReloadRefused(Exception):
    pass


class Server:
    """`ServerCore::ReloadConfig`: labels are checked against what is available, then versions are loaded."""

    def __init__(self, served):
        self.available = {name: set(model.versions) for name, model in served.items()}
        self.labels = {name: dict(model.labels) for name, model in served.items()}

    def reload(self, served):
        for name, model in served.items():
            for label, version in model.labels.items():
                if version not in self.available.get(name, ()):
                    raise ReloadRefused(f"{label} → version {version} of {name}")
        self.labels = {name: dict(model.labels) for name, model in served.items()}
        self.available = {name: set(model.versions) for name, model in served.items()}

    def answer(self, name, label):
        """The version that answers; None where no version has the label. A label that is set must have its version."""
        version = self.labels.get(name, {}).get(label)
        assert version is None or version in self.available[name]
        return version


@given(served(), served())
def test_a_switch_is_never_refused_and_leaves_nobody_without_an_answer(before, after):
    server = Server(before)
    seen = {(name, label): [server.answer(name, label)] for name in NAMES for label in LABELS}
    for step in switch_steps(before, after):
        server.reload(step.served)
        for name, versions in step.awaited.items():
            assert versions <= server.available[name]
        for key, answers in seen.items():
            answers.append(server.answer(*key))
    assert server.available == {name: set(model.versions) for name, model in after.items()}
    assert server.labels == {name: dict(model.labels) for name, model in after.items()}
    for (name, label), answers in seen.items():
        old, new = answers[0], answers[-1]
        # At most one change, and from the old version to the new one at once.
        changes = [each for last, each in pairwise(answers) if each != last]
        assert changes in ([], [new]) and (changes == [] or old != new), (name, label, answers)


@given(served(), served())
def test_labels_move_in_one_reload(before, after):
    """Two models of a release never answer from two releases: every label that moves does so in the same step."""
    steps = switch_steps(before, after)
    common = before.keys() & after.keys()
    moved = [
        now
        for last, now in pairwise([before, *(step.served for step in steps)])
        if any(dict(now[name].labels) != dict(last[name].labels) for name in common)
    ]
    assert len(moved) <= 1


@given(served())
def test_nothing_to_do_is_no_step(now):
    assert switch_steps(now, now) == []


def test_a_label_that_moves_takes_three_reloads():
    before = {"a": ServedModel(frozenset({1}), {"stable": 1})}
    after = {"a": ServedModel(frozenset({2}), {"stable": 2})}
    with pytest.raises(ReloadRefused, match="stable → version 2 of a"):
        Server(before).reload(after)
    steps = switch_steps(before, after)
    assert [(step.name, sorted(step.served["a"].versions), step.served["a"].labels) for step in steps] == [
        ("load", [1, 2], {"stable": 1}),
        ("label", [1, 2], {"stable": 2}),
        ("retire", [2], {"stable": 2}),
    ]
    assert steps[0].awaited == {"a": {2}}


def test_a_model_that_goes_answers_until_it_is_retired():
    before = {name: ServedModel(frozenset({1}), {"stable": 1}) for name in "ab"}
    steps = switch_steps(before, {"a": ServedModel(frozenset({2}), {"stable": 2})})
    assert [step.served.get("b", None) for step in steps] == [before["b"], before["b"], None]


def test_a_canary_beside_it_takes_two_and_moves_no_label():
    before = {"a": ServedModel(frozenset({1}), {"stable": 1})}
    after = {"a": ServedModel(frozenset({1, 2}), {"stable": 1, "canary": 2})}
    assert [step.name for step in switch_steps(before, after)] == ["load", "label"]
