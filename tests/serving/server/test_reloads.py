"""Other models while the server runs: by gRPC, by a models.config, with labels."""

import shutil

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from features.errors import InputError, RunError
from serving.server.versions.model_configs import read_models_config
from serving.server.versions.model_manager import AVAILABLE, END
from tests.serving.server.serving_case import eventually, floats, predict_request, refused, serving

X = floats(2.0)


def config(*models: str) -> model_server_config_pb2.ModelServerConfig:
    text = "".join(f"config {{ {model} }} " for model in models)
    return text_format.Parse(f"model_config_list {{ {text} }}", model_server_config_pb2.ModelServerConfig())


def half(path, more: str = "", name: str = "half") -> str:
    return f'name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more}'


def labels(**versions: int) -> str:
    return " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in versions.items())


BOTH = "model_version_policy { specific { versions: 1 versions: 2 } }"
ALL = "model_version_policy { all {} }"


def reload(running, *models: str, metrics=()):
    request = model_management_pb2.ReloadConfigRequest(config=config(*models), metric_names=metrics)
    return running.model.HandleReloadConfigRequest(request, timeout=120)


@pytest.fixture
def base(toys, tmp_path):
    """Versions 1 and 2 of `half_plus_two`."""
    shutil.copytree(toys["half_plus_two"], tmp_path / "half")
    return tmp_path / "half"


@pytest.fixture
def running(base):
    with serving(models={"half": str(base)}) as found:
        yield found


def answered(running, **chosen) -> int:
    return running.prediction.Predict(predict_request("half", x=X, **chosen), timeout=60).model_spec.version.value


def test_a_reload_replaces_what_is_served_and_waits_for_new_models(running, base, toys):
    reload(running, half(base), half(toys["kinds"], name="kinds"))
    assert running.states("kinds") == {1: AVAILABLE} and answered(running) == 2
    reload(running, half(toys["kinds"], name="kinds"))
    eventually(lambda: running.states("half") == {2: END})
    assert refused(running.prediction.Predict, predict_request("half", x=X))[0] == "NOT_FOUND"
    reload(running, half(base, ALL))
    eventually(lambda: running.states("half") == {2: AVAILABLE, 1: AVAILABLE})
    assert answered(running) == 2 and answered(running, version=1) == 1


def test_a_label_moves_in_two_reloads_without_a_call_that_fails(running, base):
    reload(running, half(base, BOTH))
    eventually(lambda: running.states("half") == {2: AVAILABLE, 1: AVAILABLE})
    reload(running, half(base, BOTH + labels(stable=1, canary=2)))
    assert answered(running, label="stable") == 1 and answered(running, label="canary") == 2
    reload(running, half(base, BOTH + labels(stable=2)))
    assert answered(running, label="stable") == 2
    assert refused(running.prediction.Predict, predict_request("half", label="canary", x=X)) == (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: canary",
    )


def test_a_label_of_a_version_that_is_not_there_is_refused_and_the_labels_stay(running, base):
    reload(running, half(base, labels(stable=2)))
    assert refused(reload, running, half(base, BOTH + labels(stable=1))) == (
        "FAILED_PRECONDITION",
        "Request to assign label to version 1 of model half, which is not currently available for inference",
    )
    assert answered(running, label="stable") == 2 and running.states("half") == {2: AVAILABLE}


def test_labels_may_name_versions_to_come_only_where_that_is_allowed(base, tmp_path):
    path = tmp_path / "models.config"
    path.write_text(text_format.MessageToString(config(half(base, BOTH + labels(stable=1)))))
    text = "Request to assign label to version 1 of model half, which is not currently available for inference"
    with pytest.raises(RunError, match=text), serving(models_config=str(path)):
        pass
    with serving(models_config=str(path), allow_labels_before_load=True) as running:
        assert eventually(lambda: running.states("half").get(1) == AVAILABLE)
        assert answered(running, label="stable") == 1
        # A label that is in use may not be moved that way.
        code, _ = refused(reload, running, half(base, BOTH + labels(stable=3)))
        assert code == "FAILED_PRECONDITION" and answered(running, label="stable") == 1
        reload(running, half(base, BOTH + labels(stable=1, next=3)))
        assert refused(running.prediction.Predict, predict_request("half", label="next", x=X)) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(half, 3)",
        )


REFUSED = {
    "twice": ([half("/a"), half("/a")], "Illegal to list model half multiple times in config list"),
    "relative": (
        [half("models/half")],
        "Expected model half to have an absolute path or URI; got base_path()=models/half",
    ),
    "no path": ([half("")], "Expected model half to have an absolute path or URI; got base_path()="),
    "another platform": (
        ['name: "half" base_path: "/a" model_platform: "caffe"'],
        "Illegal to change a model's platform. For model half platform was tensorflow and new platform requested is "
        "caffe",
    ),
    "unknown platform": (
        ['name: "other" base_path: "/a" model_platform: "caffe"'],
        "Model other requests unsupported platform caffe",
    ),
    "no platform": (
        ['name: "other" base_path: "/a"'],
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
        "model name is other",
    ),
    "both": (
        [half("/a", "model_type: TENSORFLOW", name="other")],
        "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, model "
        "name is other",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(running, case):
    models, text = REFUSED[case]
    assert refused(reload, running, *models) == ("INVALID_ARGUMENT", text)
    assert answered(running) == 2


def test_only_lists_of_models_are_taken(running):
    for empty in (model_management_pb2.ReloadConfigRequest(), None):
        request = empty or model_management_pb2.ReloadConfigRequest(config={"custom_model_config": {}})
        assert refused(running.model.HandleReloadConfigRequest, request) == (
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported",
        )


def test_a_new_model_that_cannot_be_loaded_ends_the_reload(running, base, tmp_path):
    (tmp_path / "bad" / "1").mkdir(parents=True)
    code, text = refused(reload, running, half(base), half(tmp_path / "bad", name="bad"))
    assert code == "UNKNOWN"
    start = "1 model(s) did not become available: {{{name: bad version: 1} due to error: NOT_FOUND: Could not find "
    assert text.startswith(start) and text.endswith("}, }")
    assert answered(running) == 2


def test_the_increase_of_figures_is_answered(running, base):
    answered(running)
    names = ["/tensorflow/serving/request_count", "/tensorflow/serving/nope"]
    answer = reload(running, half(base), metrics=names)
    assert {each.name: each.int64_value_increase for each in answer.metric} == dict.fromkeys(names, 0)
    assert answer.status.error_code == 0


def test_a_reload_leaves_the_folders_that_may_be_served_from_alone(base, toys, tmp_path):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(toys["kinds"])
    with serving(models={"half": str(base)}, reload_roots=[str(allowed), str(base)]) as running:
        for path in (toys["kinds"], allowed / ".." / "other", f"{allowed}x", allowed / "link"):
            code, text = refused(reload, running, half(path, name="other"))
            assert code == "INVALID_ARGUMENT" and "not below a folder that this server may serve from" in text
        shutil.copytree(toys["kinds"], allowed / "kinds")
        reload(running, half(allowed / "kinds", name="kinds"), half(base))
        assert running.states("kinds") == {1: AVAILABLE}
    with serving(models={"half": str(base)}, allow_reload=False) as running:
        assert refused(reload, running, half(base))[0] == "UNIMPLEMENTED"


def test_a_models_config_is_read_again(base, toys, tmp_path):
    path = tmp_path / "models.config"

    def write(*models):
        aside = tmp_path / "aside"
        aside.write_text(text_format.MessageToString(config(*models)))
        aside.rename(path)

    write(half(base))
    with serving(models_config=str(path), models_config_poll_s=0.05) as running:
        assert answered(running) == 2
        # The label is refused until its version has been loaded, then taken: the file is applied again and again.
        write(half(base, BOTH))
        eventually(lambda: running.states("half").get(1) == AVAILABLE)
        write(half(base, BOTH + labels(stable=1)), half(toys["kinds"], name="kinds"))
        eventually(lambda: running.server.core._routing.labels.get("half") == {"stable": 1})
        assert answered(running, label="stable") == 1
        eventually(lambda: "kinds" in running.server.core.model_names())
        path.write_text("nonsense {")
        path.unlink()
        assert answered(running) == 2


@pytest.mark.parametrize("content", ["nonsense {", b"\xff\xfe", None])
def test_a_models_config_that_cannot_be_read_is_an_error_of_input(tmp_path, content):
    path = tmp_path / "models.config"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=str(path)):
        read_models_config(str(path))
