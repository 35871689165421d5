"""The files of a deployment: each held against the schema of who reads it, and against one another."""

import json
import re
import subprocess

import pytest
import yaml
from google.protobuf import descriptor_pb2, message_factory, text_format, wrappers_pb2

from features.config import SpecError, parse_model
from serving.deploy.config import CONFIG_FOLDER, Deployment
from serving.deploy.served import ServedModel
from serving.deploy.server_files import METRICS_PATH, compose, kubernetes, server_files, server_flags
from tests.serving.deploy.tools import manifest_validators

SERVED = {
    "shop_autoint": ServedModel(frozenset({17, 12}), {"stable": 12, "canary": 17}),
    "shop_two_tower": ServedModel(frozenset({4}), {"stable": 4}),
}
#: model_servers/main.cc of TensorFlow Serving 2.16.1: the flags that a deployment may use.
FLAGS = {
    *("port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms", "grpc_max_threads"),
    *("grpc_channel_arguments", "enable_grpc_healthcheck_service", "model_config_file", "monitoring_config_file"),
    *("allow_version_labels_for_unavailable_models", "max_num_load_retries", "load_retry_interval_micros"),
    *("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "enable_batching"),
    "batching_parameters_file",
}
#: (field, number, type) of messages that the package of the API lacks: servables/tensorflow/session_bundle_config.proto
#: and config/monitoring_config.proto.
MESSAGES = {
    "BatchingParameters": [
        *(("max_batch_size", 1, "Int64Value"), ("batch_timeout_micros", 2, "Int64Value")),
        *(("max_enqueued_batches", 3, "Int64Value"), ("num_batch_threads", 4, "Int64Value")),
        *(("thread_pool_name", 5, "StringValue"), ("allowed_batch_sizes", 6, "int64s")),
        *(("pad_variable_length_inputs", 7, "bool"), ("enable_large_batch_splitting", 8, "BoolValue")),
        ("max_execution_batch_size", 9, "Int64Value"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, "PrometheusConfig")],
}
VARIANTS = [
    {},
    {"batching": {"enabled": True}, "cpus": 4, "callers": 200},
    {"base": "gs://bucket/serving", "name": "shop"},
    {"root": './a "quoted" $path: #1', "image": "example.org/serving:1"},
    {"gateway": {"image": "example.org/clickmill:1", "behaviors": True}},
]
VALIDATE = """
import sys, yaml, json, compose_spec, kubernetes_validate
manifests, composed = sys.argv[1:]
for each in yaml.safe_load_all(open(manifests)):
    for version in ("1.28", "1.37"):
        kubernetes_validate.validate(each, version, strict=True)
compose = compose_spec.PyCompose.from_yaml(open(composed).read())
compose.validate()
print("valid")
"""


def classes():
    """Message classes by name, of `MESSAGES`."""
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="serving_texts.proto", package="clickmill.tests", syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=3 if kind == "int64s" else 1)
            added.type = {"bool": 8, "string": 9, "int64s": 3}.get(kind, 11)
            if added.type == 11:
                added.type_name = f".clickmill.tests.{kind}" if kind in MESSAGES else f".google.protobuf.{kind}"
    found = message_factory.GetMessages([wrappers, file])
    return {name: found[f"clickmill.tests.{name}"] for name in MESSAGES}


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: ",".join(variant) or "default")
def deployment(request):
    return Deployment.model_validate(request.param)


@pytest.fixture(scope="module")
def files(deployment):
    return server_files(SERVED, deployment, "stable: release r1")


@pytest.fixture(scope="module")
def manifests(deployment, files):
    found = yaml.safe_load_all(kubernetes(deployment, files))
    return {each["kind"]: each for each in found if not each["metadata"]["name"].endswith("-gateway")}


@pytest.fixture(scope="module")
def service(deployment):
    return yaml.safe_load(compose(deployment))["services"]["serving"]


def validate(folder, manifests: str, composed: str):
    (folder / "kubernetes.yaml").write_text(manifests)
    (folder / "compose.yaml").write_text(composed)
    command = [manifest_validators(), "-c", VALIDATE, folder / "kubernetes.yaml", folder / "compose.yaml"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_manifests_and_compose_hold_to_their_schemas(tmp_path, deployment, files):
    done = validate(tmp_path, kubernetes(deployment, files), compose(deployment))
    assert done.stdout == "valid\n", done.stderr[-2_000:]


@pytest.mark.parametrize(
    "planted, told",
    [
        (("readinessProbe:", "readynessProbe:"), "readynessProbe"),
        (("maxUnavailable: 1", "maxUnavailable: [1]"), "maxUnavailable"),
        (("cap_drop:", "cap_dorp:"), "cap_dorp"),
        (("stop_grace_period: 5s", "stop_grace_period: soon"), "stop_grace_period"),
    ],
)
def test_a_planted_mistake_breaks_the_schema(tmp_path, planted, told):
    deployment = Deployment()
    texts = [kubernetes(deployment, server_files(SERVED, deployment)), compose(deployment)]
    assert any(planted[0] in text for text in texts)
    done = validate(tmp_path, *(text.replace(*planted) for text in texts))
    assert done.returncode and told in done.stderr


def test_the_flags_are_those_of_the_server(deployment):
    flags = dict(re.fullmatch(r"--(\w+)=(.+)", flag).groups() for flag in server_flags(deployment))
    assert set(flags) <= FLAGS
    assert int(flags["grpc_max_threads"]) >= 8 / 5 * deployment.callers  # 8 threads carry 5 callers
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    assert int(flags["tensorflow_intra_op_parallelism"]) == deployment.cpus
    # A parameters file without the flag beside it stops the start.
    assert ("enable_batching" in flags) == ("batching_parameters_file" in flags) == deployment.batching.enabled
    age = int(flags["grpc_channel_arguments"].removeprefix("grpc.max_connection_age_ms="))
    assert 1.1 * age < 1000 * deployment.drain_seconds  # gRPC varies the age by a tenth


def test_the_files_that_flags_name_are_there(deployment, files, manifests, service):
    named = [flag.rpartition("/")[2] for flag in server_flags(deployment) if f"={CONFIG_FOLDER}/" in flag]
    assert set(named) <= set(files) == set(manifests["ConfigMap"]["data"])
    assert manifests["ConfigMap"]["data"] == files
    mounted = {each["target"]: each["source"] for each in service["volumes"]}
    assert mounted[CONFIG_FOLDER] == "./server"


def test_monitoring_and_batching_are_messages_of_the_server(deployment, files):
    found = classes()
    monitoring = text_format.Parse(files["monitoring.config"], found["MonitoringConfig"]())
    assert monitoring.prometheus_config.enable and monitoring.prometheus_config.path == METRICS_PATH
    batching = text_format.Parse(files["batching_params.pbtxt"], found["BatchingParameters"]())
    held = deployment.batching
    assert batching.max_batch_size.value == held.max_batch_size
    assert batching.max_enqueued_batches.value == held.max_enqueued_batches
    assert batching.HasField("batch_timeout_micros") and batching.batch_timeout_micros.value == held.timeout_micros
    assert batching.num_batch_threads.value == deployment.cpus and batching.pad_variable_length_inputs
    assert ("Not in use" in files["batching_params.pbtxt"]) != held.enabled
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batch_sise { value: 1 }", found["BatchingParameters"]())


def test_nothing_runs_as_root_or_writes(manifests, service, deployment):
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]} and not pod["automountServiceAccountToken"]
    assert all(each["readOnly"] for each in container["volumeMounts"] if each["name"] != "tmp")
    assert service["user"].split(":")[0] != "0" and service["read_only"] and service["cap_drop"] == ["ALL"]
    assert all(each["read_only"] for each in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_models_are_mounted_where_they_are_files(manifests, service, deployment):
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    local = "://" not in deployment.base
    assert claims == ([{"claimName": "clickmill-models", "readOnly": True}] if local else [])
    sources = [each["source"] for each in service["volumes"] if each["target"] == deployment.base]
    assert sources == ([deployment.root.replace("$", "$$")] if local else [])
    config = text_format.Parse(manifests["ConfigMap"]["data"]["models.config"], _models_config())
    assert {each.base_path for each in config.model_config_list.config} == {
        f"{deployment.base}/{name}" for name in SERVED
    }


def _models_config():
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    return ModelServerConfig()


def test_probes_ports_and_patience_fit_together(manifests, deployment):
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": deployment.grpc_port, "rest": deployment.rest_port}
    assert not any("tcpSocket" in container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    assert container["readinessProbe"]["exec"]["command"][1].removeprefix(f"{CONFIG_FOLDER}/") == "ready.sh"
    # The names under which TensorFlow Serving registers its health (model_servers/server.cc).
    assert container["startupProbe"]["grpc"] == {"port": deployment.grpc_port, "service": "PredictionService"}
    (_, slept) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert int(slept) == deployment.drain_seconds < pod["terminationGracePeriodSeconds"]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    assert {port["targetPort"] for port in manifests["Service"]["spec"]["ports"]} == set(ports)


def test_other_files_are_another_config_map():
    """So that pods roll over, and none that runs sees its files change."""
    deployment = Deployment()

    def name(served):
        (config, *_) = yaml.safe_load_all(kubernetes(deployment, server_files(served, deployment)))
        return config["metadata"]["name"]

    other = SERVED | {"shop_two_tower": ServedModel(frozenset({5}), {"stable": 5})}
    assert name(SERVED) == name(dict(SERVED)) != name(other)


@pytest.mark.parametrize(
    "values, told",
    [
        ({"callres": 3}, "Did you mean `callers`"),
        ({"base": "models"}, "absolute path or a URI"),
        ({"root": "serving_models"}, "must begin with"),
        ({"rest_port": 8500}, "must differ"),
        ({"name": "Not A Name"}, "name"),
        ({"batching": {"max_batch_size": 16}}, "max_batch_size"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(values, told):
    with pytest.raises(SpecError, match=told):
        parse_model(values, Deployment, "settings.yaml")


def test_settings_are_json_and_back():
    assert Deployment.model_validate(json.loads(Deployment().model_dump_json())) == Deployment()
