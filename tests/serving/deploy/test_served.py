"""models.config: TensorFlow Serving's own message, read back; what cannot be served is refused."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from features.config import SpecError
from features.errors import InputError
from serving.deploy.served import ServedModel, read_config, to_text

SERVED = {
    "shop_autoint": ServedModel(frozenset({17, 12}), {"stable": 12, "canary": 17}),
    "shop_two_tower": ServedModel(frozenset({4}), {"stable": 4}),
}


def test_the_text_is_the_server_s_message_and_names_every_version():
    config = text_format.Parse(to_text(SERVED, "/models", "a comment"), ModelServerConfig())
    first, second = config.model_config_list.config
    assert (first.name, first.base_path, first.model_platform) == ("shop_autoint", "/models/shop_autoint", "tensorflow")
    policy = first.model_version_policy
    assert policy.WhichOneof("policy_choice") == "specific" and list(policy.specific.versions) == [12, 17]
    assert dict(first.version_labels) == {"stable": 12, "canary": 17}
    assert list(second.model_version_policy.specific.versions) == [4]


@pytest.mark.parametrize("base", ["/models", "gs://bucket/serving"])
def test_what_is_written_is_read(tmp_path, base):
    path = tmp_path / "models.config"
    path.write_text(to_text(SERVED, base, "of two releases"))
    assert read_config(path) == (SERVED, base)


def test_a_label_names_a_version_that_is_served():
    with pytest.raises(InputError, match=r"`canary` names version 3, which is not served\. Served: 1, 2\."):
        ServedModel(frozenset({1, 2}), {"canary": 3})


@pytest.mark.parametrize(
    "text, told",
    [
        ("model_config_list { config { nane: 'a' } }", "no field named"),
        ('model_config_list { config { name: "a" base_path: "/models/a" } }', "`a` names no versions"),
        ("", "below 0 folders"),
        (to_text(SERVED, "/a").replace("/a/shop_two", "/b/shop_two"), "below 2 folders"),
    ],
)
def test_another_models_config_is_refused(tmp_path, text, told):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(SpecError, match=told):
        read_config(tmp_path / "models.config")


def test_bytes_and_absence_are_refused(tmp_path):
    (tmp_path / "models.config").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "models.config", tmp_path / "gone"):
        with pytest.raises(SpecError, match=path.name):
            read_config(path)
