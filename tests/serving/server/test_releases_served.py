"""A server follows the releases that labels name: the new one whole, then the switch, then the old one goes."""

import json
import shutil
import threading
import time

import pytest

from features.errors import InputError, RunError
from serving.server.versions.model_manager import AVAILABLE, END
from tests.serving.server.serving_case import eventually, floats, predict_request, refused, serving
from tests.serving.server.toy_models import save_half_plus

pytest.importorskip("serving.release.registry")

X = floats(2.0)
MODELS = ("first", "second")


class Root:
    """A serving root whose manifests are written by hand, as `serving/release/manifest.py` says they lie."""

    def __init__(self, folder, versions):
        self.folder, self.versions = folder, versions
        (folder / "releases").mkdir(parents=True)

    def release(self, name: str, versions: dict[str, int]) -> str:
        """Puts versions of models in place, then their manifest."""
        for model, version in versions.items():
            target = self.folder / model / str(version)
            if not target.exists():
                shutil.copytree(self.versions / str(version), target)
        found = {
            "id": name,
            "created": "2026-11-26T07:30:00+00:00",
            "models": [
                {"name": model, "stage": "fine", "version": version, "path": f"{model}/{version}"}
                for model, version in versions.items()
            ],
        }
        self._write(f"releases/{name}.json", found)
        return name

    def label(self, **labels: str) -> None:
        """Moves the labels, by one rename."""
        self._write("labels.json", labels)

    def _write(self, name: str, values) -> None:
        aside = self.folder / "aside"
        aside.write_text(json.dumps(values))
        aside.rename(self.folder / name)


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Versions 1 to 3 of `y = x / 2 + version`."""
    folder = tmp_path_factory.mktemp("versions")
    for version in (1, 2, 3):
        save_half_plus(folder / str(version), float(version))
    return folder


@pytest.fixture
def root(versions, tmp_path):
    """A root whose `stable` names release `r1`: version 1 of both models."""
    found = Root(tmp_path / "root", versions)
    found.label(stable=found.release("r1", dict.fromkeys(MODELS, 1)))
    return found


def answered(running, model: str, **chosen) -> int:
    return running.prediction.Predict(predict_request(model, x=X, **chosen), timeout=60).model_spec.version.value


def test_a_label_that_moves_is_followed_and_rolled_back(root):
    with serving(root=str(root.folder), linger_s=0.2) as running:
        assert [answered(running, model) for model in MODELS] == [1, 1]
        assert [answered(running, model, label="stable") for model in MODELS] == [1, 1]
        root.label(stable=root.release("r2", {"first": 2, "second": 3}))
        eventually(lambda: answered(running, "first") == 2)
        assert answered(running, "second") == 3 and answered(running, "second", label="stable") == 3
        eventually(lambda: running.states("second") == {3: AVAILABLE, 1: END})
        # Back to lower versions: the highest is not what calls without a version get.
        root.label(stable="r1")
        eventually(lambda: answered(running, "second") == 1)
        assert answered(running, "first", label="stable") == 1
        eventually(lambda: running.states("first") == {2: END, 1: AVAILABLE})


def test_two_labels_are_served_beside_one_another(root):
    root.label(stable="r1", canary=root.release("r2", {"first": 2, "third": 3}))
    with serving(root=str(root.folder), labels=["stable", "canary"]) as running:
        assert [answered(running, "first", **chosen) for chosen in ({}, {"label": "stable"}, {"label": "canary"})] == [
            *(1, 1, 2)
        ]
        assert answered(running, "third") == 3 and answered(running, "second") == 1
        code, text = refused(running.prediction.Predict, predict_request("second", label="canary", x=X))
        assert (code, text) == ("INVALID_ARGUMENT", "Unrecognized servable version label: canary")


def test_both_models_switch_at_once_and_no_call_fails(root):
    """Callers ask for the second model right after the first: its version is never the older one."""
    for version in (2, 3):
        root.release(f"r{version}", dict.fromkeys(MODELS, version))
    errors, mixed, stop = [], [], threading.Event()
    moves = ["r2", "r3", "r1", "r3", "r2", "r1"]

    def call(running):
        while not stop.is_set():
            try:
                before = running.server.core._routing
                found = [answered(running, model) for model in MODELS]
                if running.server.core._routing is before and len(set(found)) > 1:
                    mixed.append(found)
            except Exception as error:
                errors.append(error)

    with serving(root=str(root.folder), linger_s=0.0, workers=4) as running:
        callers = [threading.Thread(target=call, args=(running,)) for _ in range(3)]
        for each in callers:
            each.start()
        for name in moves:
            root.label(stable=name)
            eventually(lambda name=name: answered(running, "second") == int(name[1]))
        stop.set()
        for each in callers:
            each.join()
    assert errors == [] and mixed == []


def test_versions_of_the_release_before_stay_for_those_who_hold_their_numbers(root):
    with serving(root=str(root.folder), linger_s=1e6) as running:
        root.label(stable=root.release("r2", dict.fromkeys(MODELS, 2)))
        eventually(lambda: answered(running, "first") == 2)
        time.sleep(0.5)  # ten looks
        assert answered(running, "first", version=1) == 1


def test_a_release_that_cannot_be_loaded_changes_nothing(root):
    root.release("r2", {"first": 2, "second": 3})
    with serving(root=str(root.folder)) as running:
        shutil.rmtree(root.folder / "second" / "3" / "variables")
        root.label(stable="r2")
        eventually(lambda: running.states("second").get(3) == END)
        time.sleep(0.5)  # it is not tried again and again
        assert [answered(running, model) for model in MODELS] == [1, 1]
        root.release("r3", {"first": 3, "second": 2})
        root.label(stable="r3")
        eventually(lambda: [answered(running, model) for model in MODELS] == [3, 2])


@pytest.mark.parametrize(
    "labels", [None, "{", json.dumps({"stable": "gone"}), json.dumps({"stable": "../../r1"}), json.dumps({})]
)
def test_labels_that_name_no_release_stop_the_start_and_change_nothing_later(root, labels):
    path = root.folder / "labels.json"
    with serving(root=str(root.folder)) as running:
        path.unlink() if labels is None else path.write_text(labels)
        time.sleep(0.3)
        assert answered(running, "first") == 1
    with pytest.raises(InputError), serving(root=str(root.folder)):
        pass


@pytest.mark.parametrize("path", ["../first/1", "/etc/1", "first/../../x/1", "second/1", "first/2"])
def test_a_manifest_leads_nowhere_else(root, path):
    root.release("r2", {"first": 1})
    manifest = root.folder / "releases" / "r2.json"
    values = json.loads(manifest.read_text())
    values["models"][0]["path"] = path
    manifest.write_text(json.dumps(values))
    root.label(stable="r2")
    with pytest.raises(InputError), serving(root=str(root.folder)):
        pass


def test_a_release_that_cannot_be_loaded_stops_the_start(root):
    shutil.rmtree(root.folder / "first" / "1" / "variables")
    with pytest.raises(RunError, match="Failed to start server. Error: UNKNOWN: "), serving(root=str(root.folder)):
        pass
