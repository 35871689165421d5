"""The gRPC port: a queue with a bound, deadlines, sizes, health, certificates, and a drain."""

import datetime
import ipaddress
import threading
import time

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2
from pydantic import ValidationError
from tensorflow_serving.apis import model_management_pb2

from features.errors import InputError, RunError
from serving.server.config import ServeConfig
from serving.server.rpc.grpc_endpoint import HEALTH_NAMES
from tests.serving.server.serving_case import Clients, eventually, floats, predict_request, refused, serving

X = floats(2.0)
FOR_EVER = 10**12
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def spin(rounds: int):
    """A request that takes a time that grows with `rounds`."""
    return predict_request("kinds", "spin", n=np.int64(rounds))


@pytest.fixture
def models(toys):
    return {name: str(path) for name, path in toys.items()}


def busy(running) -> int:
    return running.server.core.calls.count


def test_a_call_that_finds_no_place_is_refused_and_the_others_are_answered(models):
    with serving(models=models, workers=1, queue=1) as running:
        held = running.prediction.Predict.future(spin(FOR_EVER), timeout=10)
        eventually(lambda: busy(running) == 1)
        waiting = running.prediction.Predict.future(predict_request("half_plus_two", x=X), timeout=100)
        eventually(lambda: busy(running) == 2)
        for method in ("Predict", "Classify", "Regress", "MultiInference"):
            call = running.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
            assert refused(call, b"\0" * 2**20) == ("RESOURCE_EXHAUSTED", "The queue of calls is full")
        # What runs no model is answered all the same.
        assert running.health.Check(health_pb2.HealthCheckRequest()).status == SERVING
        assert running.states("kinds") == {1: 30}
        assert ':tensorflow:serving:request_refused_count{entrypoint="GRPC"} 4' in (
            running.server.core.metrics.render().decode()
        )
        # The run ends with its deadline, and the one that waits is answered.
        assert waiting.result().outputs["y"].float_val and held.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_places_are_given_back_however_calls_end(models):
    with serving(models=models, workers=2, queue=2) as running:
        for number in range(40):
            call = running.prediction.Predict.future(spin(FOR_EVER), timeout=0.05 + 0.01 * (number % 3))
            if number % 2:
                call.cancel()
            time.sleep(0.005)
        eventually(lambda: busy(running) == 0)
        assert running.prediction.Predict(predict_request("half_plus_two", x=X), timeout=60)


def test_a_run_ends_with_its_deadline_and_one_that_came_too_late_is_not_begun(models):
    with serving(models=models, workers=1, queue=8) as running:
        begun = time.monotonic()
        assert refused(running.prediction.Predict, spin(FOR_EVER), timeout=0.3)[0] == "DEADLINE_EXCEEDED"
        eventually(lambda: busy(running) == 0)  # the run itself was cancelled
        assert time.monotonic() - begun < 60
        blocked = running.prediction.Predict.future(spin(FOR_EVER), timeout=1.0)
        eventually(lambda: busy(running) == 1)
        late = running.prediction.Predict.future(predict_request("half_plus_two", x=X), timeout=0.2)
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert blocked.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: busy(running) == 0)
        page = running.server.core.metrics.render().decode()
        assert 'model_name="half_plus_two",API="Predict",runtime' not in page


def test_messages_above_the_bound_are_refused(models):
    with serving(models=models, max_message_bytes=100_000) as running:
        fits, large = np.zeros(20_000, np.float32), np.zeros(30_000, np.float32)
        answer = running.prediction.Predict(predict_request("half_plus_two", x=fits), timeout=60)
        assert len(answer.outputs["y"].float_val) == 20_000
        code, text = refused(running.prediction.Predict, predict_request("half_plus_two", x=large), timeout=60)
        assert code == "RESOURCE_EXHAUSTED" and "larger than max" in text


def test_health_by_service(toy_server):
    for name in HEALTH_NAMES:
        request = health_pb2.HealthCheckRequest(service=name)
        assert toy_server.health.Check(request, timeout=60).status == SERVING
    request = health_pb2.HealthCheckRequest(service="tensorflow.serving.SessionService")
    assert refused(toy_server.health.Check, request)[0] == "NOT_FOUND"


def test_a_drain_answers_what_is_in_flight_and_takes_no_more(models):
    with serving(models=models, workers=2, queue=8) as running:
        rounds = rounds_of(running, seconds=1.0)
        watch = running.health.Watch(health_pb2.HealthCheckRequest(), timeout=100)
        assert next(watch).status == SERVING
        calls = [running.prediction.Predict.future(spin(rounds), timeout=100) for _ in range(3)]
        eventually(lambda: busy(running) == 3)
        stopping = threading.Thread(target=running.server.stop, args=(100.0,))
        stopping.start()
        assert next(watch).status == NOT_SERVING
        late = Clients(f"127.0.0.1:{running.server.grpc_port}")
        eventually(
            lambda: (
                late.prediction.Predict.future(predict_request("half_plus_two", x=X), timeout=5).code()
                is grpc.StatusCode.UNAVAILABLE
            )
        )
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * 3
        stopping.join()
        eventually(lambda: running.server.core.manager.states("kinds")[1].state == 50)


def test_calls_that_outlast_the_drain_are_cancelled(models):
    with serving(models=models) as running:
        call = running.prediction.Predict.future(spin(FOR_EVER), timeout=3.0)
        eventually(lambda: busy(running) == 1)
        running.server.stop(0.1)
        assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def rounds_of(running, seconds: float) -> int:
    """So many rounds that `spin` takes about so long here."""
    begun = time.monotonic()
    running.prediction.Predict(spin(20_000), timeout=100)
    return int(20_000 * seconds / (time.monotonic() - begun))


def test_a_reload_that_waits_holds_nobody_up(models, tmp_path):
    with serving(models=models) as running:
        (tmp_path / "empty").mkdir()  # a model without a version is waited for without end
        request = model_management_pb2.ReloadConfigRequest()
        for name, path in (*models.items(), ("empty", str(tmp_path / "empty"))):
            request.config.model_config_list.config.add(name=name, base_path=path, model_platform="tensorflow")
        reloads = [running.model.HandleReloadConfigRequest.future(request, timeout=100) for _ in range(8)]
        for _ in range(20):
            assert running.states("kinds") == {1: 30}
            running.prediction.Predict(predict_request("half_plus_two", x=X), timeout=60)
        assert not any(each.done() for each in reloads)
    for each in reloads:
        assert each.code() is not grpc.StatusCode.OK


def certificate(name: str, issuer=None, authority: bool = False):
    """A key with its certificate, by an issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
    )
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())


def pem(pair) -> tuple[bytes, bytes]:
    """The key and the certificate as PEM."""
    key, found = pair
    none = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    return private, found.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """PEM by file: an authority, a server of it, a client of it, and a client of nobody's."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = certificate("authority", authority=True)
    pairs = {"authority": authority, "server": certificate("localhost", authority)}
    pairs |= {"client": certificate("client", authority), "stranger": certificate("stranger")}
    for name, pair in pairs.items():
        private, public = pem(pair)
        (folder / f"{name}.key").write_bytes(private)
        (folder / f"{name}.pem").write_bytes(public)
    return folder


def channel(running, folder, client: str | None = None) -> Clients:
    chain = () if client is None else ((folder / f"{client}.key").read_bytes(), (folder / f"{client}.pem").read_bytes())
    credentials = grpc.ssl_channel_credentials((folder / "authority.pem").read_bytes(), *chain)
    return Clients(f"127.0.0.1:{running.server.grpc_port}", credentials)


def test_tls(models, certificates):
    tls = {"key": str(certificates / "server.key"), "certificate": str(certificates / "server.pem")}
    request = predict_request("half_plus_two", x=X)
    with serving(models=models, tls=tls) as running:
        assert channel(running, certificates).prediction.Predict(request, timeout=60).outputs["y"].float_val
        assert refused(running.prediction.Predict, request, timeout=60)[0] == "UNAVAILABLE"  # without encryption
    with serving(models=models, tls={**tls, "client_ca": str(certificates / "authority.pem")}) as running:
        known = channel(running, certificates, "client")
        assert known.prediction.Predict(request, timeout=60).outputs["y"].float_val
        for client in (None, "stranger"):
            unknown = channel(running, certificates, client)
            assert refused(unknown.prediction.Predict, request, timeout=60)[0] == "UNAVAILABLE"


def test_a_certificate_that_cannot_be_read_is_an_error_of_input(models, tmp_path):
    tls = {"key": str(tmp_path / "gone.key"), "certificate": str(tmp_path / "gone.pem")}
    with pytest.raises(InputError, match="gone.key"), serving(models=models, tls=tls):
        pass


def test_a_port_that_is_taken_is_an_error(models, toy_server):
    port = toy_server.server.grpc_port
    with pytest.raises(RunError, match=f"gRPC cannot listen on 127.0.0.1:{port}"), serving(models=models, port=port):
        pass


def test_the_server_listens_on_the_loopback_unless_it_is_told_otherwise():
    assert ServeConfig(models={"m": "/m"}).host == "127.0.0.1"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"models": {"m": "/m"}, "root": "/r"},
        {"root": "/r", "labels": []},
        {"root": "/r", "labels": ["a", "a"]},
        {"models": {"": "/m"}},
        {"models": {"m": "/m"}, "port": 70_000},
        {"models": {"m": "/m"}, "host": "0.0.0.0", "tls": {"key": "k", "certificate": "c"}},
    ],
    ids=str,
)
def test_configurations_that_cannot_be_served(values):
    with pytest.raises(ValidationError):
        ServeConfig(**values)
