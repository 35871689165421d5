"""The gRPC port: its services, its certificate, its health, and how it is drained."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from features import storage
from features.errors import InputError, RunError
from serving.server.config import TlsConfig
from serving.server.core import ServerCore
from serving.server.rpc.grpc_services import CallHandlers
from serving.server.rpc.methods import MODEL_SERVICE, PREDICTION_SERVICE
from serving.server.rpc.open_calls import OpenCalls

#: Names that the health service knows: of the whole server, of its services, and those of TensorFlow Serving.
HEALTH_NAMES = ("", PREDICTION_SERVICE, MODEL_SERVICE, "PredictionService", "ModelService")
#: Threads of what runs no model: status, metadata, health, refusals.
_CONTROL_THREADS = 4


class GrpcEndpoint:
    """A gRPC server over a core; `start` opens its port, `stop` drains it.

    Args:
      core: answers; its configuration says where to listen and what bounds there are.

    Raises:
      InputError: if a file of the certificate cannot be read.

    Attributes:
      port: that it listens on, from `start` on.
    """

    def __init__(self, core: ServerCore):
        config = core.config
        self._host, self.port = config.host, config.port
        self._calls, self._opened = core.calls, OpenCalls()
        self._control = ThreadPoolExecutor(_CONTROL_THREADS, thread_name_prefix="control")
        self._reloads = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._health = health.HealthServicer()
        self._credentials = None if config.tls is None else _credentials(config.tls)
        self._server = grpc.server(
            self._control,
            handlers=(CallHandlers(core, self._opened, self._reloads),),
            options=(
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two servers on one port would share its calls
            ),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def start(self) -> None:
        """Opens the port and reports to be healthy.

        Raises:
          RunError: if the port cannot be had.
        """
        address = f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise RunError(f"gRPC cannot listen on {address}: is something else there? Give another port.") from error
        self._server.start()
        self._report(health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float) -> None:
        """Reports to be unhealthy, takes no more calls, and returns when those in flight have ended.

        Args:
          grace_s: seconds after which those that have not are cancelled.
        """
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace_s)
        until = time.monotonic() + grace_s
        self._calls.wait(grace_s)
        self._opened.wait(max(0.0, until - time.monotonic()))
        self._server.stop(0)  # what is left: calls that outlast the grace, reloads, and those that watch the health
        stopped.wait()
        for pool in (self._control, self._reloads):
            pool.shutdown(wait=False, cancel_futures=True)

    def _report(self, status: int) -> None:
        for name in HEALTH_NAMES:
            self._health.set(name, status)


def _credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    try:
        key, certificate = storage.read_bytes(tls.key), storage.read_bytes(tls.certificate)
        client_ca = None if tls.client_ca is None else storage.read_bytes(tls.client_ca)
    except OSError as error:
        raise InputError(f"the certificate cannot be read: {error.filename}: {error.strerror}.") from error
    return grpc.ssl_server_credentials([(key, certificate)], client_ca, require_client_auth=client_ca is not None)
