"""Versions come and go while calls are answered: policies, states, failed loads, missing folders."""

import random
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import RunError
from serving.server.versions.availability_policy import Managed, Phase, next_action
from serving.server.versions.model_manager import AVAILABLE, END
from serving.server.versions.version_files import Policy, Watched, version_number, wanted_versions
from tests.serving.server.serving_case import copy_version, eventually, floats, predict_request, refused, serving
from tests.serving.server.toy_models import save_half_plus

X = floats(2.0)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Versions 1 to 4 of `y = x / 2 + version`."""
    base = tmp_path_factory.mktemp("halves")
    for version in range(1, 5):
        save_half_plus(base / str(version), float(version))
    return base


@pytest.fixture
def base(halves, tmp_path):
    """A base path with version 1."""
    path = tmp_path / "half"
    path.mkdir()
    copy_version(halves / "1", path / "1")
    return path


def answered(running, **chosen) -> float:
    answer = running.prediction.Predict(predict_request("half", x=X, **chosen), timeout=60)
    (value,) = answer.outputs["y"].float_val
    assert value - 1.0 == answer.model_spec.version.value
    return value


@pytest.mark.parametrize(
    "name, number",
    [("1", 1), ("0001", 1), ("-3", -3), ("+4", 4), (" 7 ", 7), ("9223372036854775807", 2**63 - 1)]
    + [(name, None) for name in ("", "a", "1a", "1.0", "1e3", "0x1", "9223372036854775808", "٣", "1_0", "..")],
)
def test_a_folder_s_name_is_a_version_where_it_reads_as_an_integer(name, number):
    assert version_number(name) == number


def test_which_versions_a_policy_wants(tmp_path):
    for name in ("1", "0003", "12", "tmp", ".20"):
        (tmp_path / name).mkdir()

    def wanted(policy):
        return {v: path.rpartition("/")[2] for v, path in wanted_versions(Watched("m", str(tmp_path), policy)).items()}

    assert wanted(Policy()) == {12: "12"}
    assert wanted(Policy(latest=2)) == {12: "12", 3: "0003"}
    assert wanted(Policy(everything=True)) == {1: "1", 3: "0003", 12: "12"}
    assert wanted(Policy(versions=(3, 99))) == {3: "0003"}
    with pytest.raises(RunError, match=r"Could not find base path .*/gone for servable m with error NOT_FOUND"):
        wanted_versions(Watched("m", str(tmp_path / "gone")))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_model_that_had_a_version_always_has_one_while_some_are_wanted(data):
    """Any sequence of wishes, with loads that end at any time, well or not."""
    phases: dict[int, Phase] = {}
    aspired: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12))):
        had = Phase.READY in phases.values()
        if data.draw(st.booleans()):
            wish = data.draw(st.sets(st.integers(1, 5), min_size=1, max_size=3))
            if any(phases.get(version) is Phase.UNLOADING for version in wish):
                continue  # a wish waits for versions of it that unload
            aspired = wish
            for version in aspired - set(phases):
                phases[version] = Phase.NEW
            for version in [v for v in phases if v not in aspired and phases[v] in (Phase.NEW, Phase.FAILED)]:
                del phases[version]
        else:
            for version in [v for v, phase in phases.items() if phase is Phase.LOADING]:
                phases[version] = data.draw(st.sampled_from([Phase.READY, Phase.LOADING, Phase.FAILED]))
            for version in [v for v, phase in phases.items() if phase is Phase.UNLOADING]:
                del phases[version]
        for _ in range(20):
            action = next_action(Managed(v, v in aspired, phase) for v, phase in phases.items())
            if action is None:
                break
            if action.kind == "load":
                assert action.version in aspired and phases[action.version] is Phase.NEW
                phases[action.version] = Phase.LOADING
            else:
                assert action.version not in aspired and phases[action.version] is Phase.READY
                phases[action.version] = Phase.UNLOADING
        else:
            raise AssertionError("the policy does not come to an end")
        assert not had or Phase.READY in phases.values()


def test_a_new_version_answers_and_the_old_one_goes(base, halves):
    with serving(models={"half": str(base)}) as running:
        assert answered(running) == 2.0
        copy_version(halves / "3", base / "3")
        eventually(lambda: answered(running) == 4.0)
        eventually(lambda: running.states("half") == {3: AVAILABLE, 1: END})
        assert list(running.states("half")) == [3, 1]
        assert refused(running.prediction.Predict, predict_request("half", version=1, x=X)) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(half, 1)",
        )
        shutil.rmtree(base / "3")
        eventually(lambda: running.states("half") == {3: END, 1: AVAILABLE})
        assert answered(running) == 2.0


def test_an_empty_folder_unloads_everything_and_a_missing_one_nothing(base, halves, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    copy_version(halves / "2", other / "2")
    with serving(models={"half": str(base), "other": str(other)}) as running:
        other.rename(tmp_path / "away")
        copy_version(halves / "3", base / "3")
        # One look without a base path ends it for all models, as in TensorFlow Serving.
        look = running.server.core._watcher.look
        look(), look()
        assert running.states("half") == {1: AVAILABLE} and running.states("other") == {2: AVAILABLE}
        (tmp_path / "away").rename(other)
        eventually(lambda: running.states("half") == {3: AVAILABLE, 1: END})
        shutil.rmtree(other / "2")
        eventually(lambda: running.states("other") == {2: END})
        assert refused(running.prediction.Predict, predict_request("other", x=X)) == (
            "NOT_FOUND",
            "Servable not found for request: Latest(other)",
        )


def test_no_call_fails_while_versions_change(base, halves):
    """Callers from several threads; versions come, go and come again."""
    stop, seen, errors = threading.Event(), set(), []

    def call(running):
        while not stop.is_set():
            try:
                seen.add(answered(running))
            except Exception as error:
                errors.append(error)

    with serving(models={"half": str(base)}, workers=4) as running:
        callers = [threading.Thread(target=call, args=(running,)) for _ in range(3)]
        for each in callers:
            each.start()
        rng = random.Random(3)
        for _ in range(2):
            for version in (2, 3, 4):
                copy_version(halves / str(version), base / str(version))
                eventually(lambda version=version: running.states("half").get(version) == AVAILABLE)
            for version in rng.sample((2, 3, 4), 3):
                shutil.rmtree(base / str(version))
                eventually(lambda version=version: running.states("half").get(version) == END)
            eventually(lambda: running.states("half").get(1) == AVAILABLE)
        stop.set()
        for each in callers:
            each.join()
    assert errors == [] and {2.0, 3.0, 4.0, 5.0} <= seen


def test_a_version_is_unloaded_when_its_last_call_has_ended(base, halves):
    with serving(models={"half": str(base)}) as running:
        core = running.server.core
        with core.manager.use("half") as model:
            copy_version(halves / "2", base / "2")
            eventually(lambda: running.states("half").get(2) == AVAILABLE)
            eventually(lambda: running.states("half")[1] == 40)
            assert answered(running) == 3.0
            signature = model.signatures["serving_default"]
            (found,) = model.run({signature.inputs["x"].name: X}, [signature.outputs["y"].name])
            np.testing.assert_array_equal(found, [2.0])
        eventually(lambda: running.states("half")[1] == END)


def broken(kind: str, source, target) -> None:
    aside = target.parent / ".aside"
    shutil.copytree(source, aside)
    if kind == "empty":
        shutil.rmtree(aside)
        aside.mkdir()
    elif kind == "cut graph":
        data = (aside / "saved_model.pb").read_bytes()
        (aside / "saved_model.pb").write_bytes(data[: len(data) // 2])
    elif kind == "no variables":
        shutil.rmtree(aside / "variables")
    elif kind == "cut variables":
        (path,) = (aside / "variables").glob("*.data-*")
        path.write_bytes(path.read_bytes()[:3])
    aside.rename(target)


BROKEN = {
    "empty": (5, "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "),
    "cut graph": (15, "Can't parse "),
    "no variables": (None, ""),
    "cut variables": (None, ""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_version_that_cannot_be_loaded_changes_nothing(base, halves, kind):
    with serving(models={"half": str(base)}) as running:
        broken(kind, halves / "2", base / "2")
        eventually(lambda: running.states("half").get(2) == END)
        state = running.server.core.manager.states("half")[2]
        code, text = BROKEN[kind]
        assert state.error is not None and state.error.message.startswith(text)
        assert code is None or state.error.code.value[0] == code
        assert answered(running) == 2.0
        copy_version(halves / "3", base / "3")
        eventually(lambda: answered(running) == 4.0)


def test_a_failed_load_is_tried_again_and_not_for_ever(base, halves):
    with serving(models={"half": str(base)}, max_load_retries=1000, load_retry_s=0.05) as running:
        broken("empty", halves / "2", base / "2")
        eventually(lambda: running.states("half").get(2) == 20)
        shutil.copytree(halves / "2", base / "2", dirs_exist_ok=True)
        eventually(lambda: answered(running) == 3.0)
    with serving(models={"half": str(base)}, max_load_retries=1, load_retry_s=0.0) as running:
        broken("empty", halves / "3", base / "3")
        eventually(lambda: running.states("half").get(3) == END)
        assert answered(running) == 3.0


def test_a_server_does_not_start_with_a_model_that_cannot_be_loaded(base, halves, tmp_path):
    shutil.rmtree(base / "1")
    broken("empty", halves / "1", base / "1")
    text = (
        r"Failed to start server. Error: UNKNOWN: 1 servable\(s\) did not become available: "
        r"\{\{\{name: half version: 1\} due to error: NOT_FOUND: Could not find SavedModel .*\}, \}"
    )
    with pytest.raises(RunError, match=text), serving(models={"half": str(base)}):
        pass
