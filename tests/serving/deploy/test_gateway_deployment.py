"""The gateway of a deployment: its command is one that `clickmill gateway` takes, its parts fit one another."""

import re

import pytest
import typer
import yaml

from features.config import SpecError, parse_model
from pipeline.cli.app import COMMANDS
from pipeline.cli.serving.gateway_command import gateway
from serving.deploy.config import Deployment
from serving.deploy.server_files import compose, kubernetes, server_files
from tests.serving.deploy.test_deployment import SERVED

IMAGE = "example.org/clickmill:1"


def drawn(**gateway_values):
    """A deployment with a gateway: the servers' and the gateway's manifests by kind, and the gateway's service."""
    deployment = Deployment(gateway={"image": IMAGE, **gateway_values})
    manifests = list(yaml.safe_load_all(kubernetes(deployment, server_files(SERVED, deployment))))
    of_gateway = {each["kind"]: each for each in manifests if each["metadata"]["name"].endswith("-gateway")}
    others = {each["kind"]: each for each in manifests if not each["metadata"]["name"].endswith("-gateway")}
    return deployment, others, of_gateway, yaml.safe_load(compose(deployment))["services"]["gateway"]


@pytest.mark.parametrize("behaviors", [False, True])
def test_the_command_is_one_that_clickmill_takes(behaviors):
    _, _, manifests, service = drawn(behaviors=behaviors)
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    command = typer.main.get_command(_alone())
    known = {name for option in command.params for name in option.opts}
    for words in (container["args"], service["command"]):
        assert words[0] in COMMANDS and {word.partition("=")[0] for word in words[1:]} <= known
    assert "--server=serving:8500" in service["command"]
    assert "--server=dns:///clickmill-serving:8500" in container["args"]


def _alone():
    app = typer.Typer(add_completion=False)
    app.command()(gateway)
    return app


def test_who_may_write_is_one_gateway():
    for behaviors in (False, True):
        deployment, _, manifests, service = drawn(behaviors=behaviors, replicas=3)
        spec = manifests["Deployment"]["spec"]
        assert spec["replicas"] == (1 if behaviors else 3)
        assert (spec["strategy"].get("type") == "Recreate") == behaviors
        (container,) = spec["template"]["spec"]["containers"]
        mounted = {each["mountPath"]: each.get("readOnly") for each in container["volumeMounts"]}
        assert mounted[deployment.base] is not behaviors and service["volumes"][0]["read_only"] is not behaviors


def test_ports_probes_labels_and_patience_fit_together():
    deployment, servers, manifests, service = drawn(port=9090, drain_seconds=20)
    pod = manifests["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9090}]
    assert manifests["Service"]["spec"]["ports"][0] == {"name": "http", "port": 9090, "targetPort": "http"}
    assert service["ports"] == ["127.0.0.1:9090:9090"] and ":9090/readyz" in service["healthcheck"]["test"][3]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    labels = pod["metadata"]["labels"]
    # The servers let in who carries this label.
    (let_in,) = servers["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    assert let_in["podSelector"]["matchLabels"].items() <= labels.items()
    assert servers["Service"]["spec"]["selector"].items() - labels.items(), "no call of a server comes to a gateway"
    for each in (manifests["Service"]["spec"]["selector"], manifests["Deployment"]["spec"]["selector"]["matchLabels"]):
        assert each.items() <= labels.items()
    slept = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert slept + 20 < pod["spec"]["terminationGracePeriodSeconds"]
    assert int(re.match(r"\d+", service["stop_grace_period"]).group()) > 20
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["spec"]["securityContext"]["runAsNonRoot"]
    assert service["user"].split(":")[0] != "0" and service["read_only"] and service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"gateway": {}}, "image"),
        ({"gateway": {"image": IMAGE, "port": 8500}}, "must differ"),
        ({"gateway": {"image": IMAGE}, "base": "gs://bucket/serving"}, "from a volume"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(values, told):
    with pytest.raises(SpecError, match=told):
        parse_model(values, Deployment, "settings.yaml")
