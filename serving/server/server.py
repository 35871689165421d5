"""A whole server: models, gRPC, REST; and how it is started and ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from features.errors import RunError
from serving.server.config import ServeConfig
from serving.server.core import ServerCore
from serving.server.rpc.grpc_endpoint import GrpcEndpoint
from serving.server.status import ServingError
from serving.server.versions.model_configs import config_of, read_models_config
from serving.server.versions.model_sources import ConfigFile, ReleaseFollower

#: Seconds within which a signal is noticed.
_SIGNAL_S = 0.05


class ModelServer:
    """Serves models until it is stopped.

    Example:
      with ModelServer(ServeConfig(models={"shop_autoint": "serving_models/shop_autoint"}, port=0)) as server:
        print(server.grpc_port, server.rest_port)

    Args:
      config: what is served, and where.

    Attributes:
      core: what answers.
      grpc_port: of gRPC, once it has started.
      rest_port: of REST, once it has started; None without REST.
    """

    def __init__(self, config: ServeConfig):
        self.config = config
        self.core = ServerCore(config)
        self.grpc_port: int | None = None
        self.rest_port: int | None = None
        self._grpc = GrpcEndpoint(self.core)
        self._rest = None
        self._source: ConfigFile | ReleaseFollower | None = None

    def start(self) -> ModelServer:
        """Loads the models, then opens the ports: who can connect can call every model.

        Raises:
          InputError: for a configuration that cannot be used.
          RunError: if a model cannot be loaded, or a port cannot be had.
        """
        try:
            self._serve_models()
            self._open_ports()
        except ServingError as error:
            self.stop(0.0)
            raise RunError(f"Failed to start server. Error: {error}") from error
        except BaseException:
            self.stop(0.0)
            raise
        return self

    def stop(self, grace_s: float | None = None) -> None:
        """Takes no more calls, lets those in flight end, and unloads the models.

        Args:
          grace_s: seconds that calls get to end; those of the configuration by default.
        """
        grace_s = self.config.drain_s if grace_s is None else grace_s
        if self._source is not None:
            self._source.stop()
        wires = [] if self.grpc_port is None else [self._grpc]
        wires += [] if self._rest is None else [self._rest]
        # At once: each waits for the calls of both.
        ends = [threading.Thread(target=each.stop, args=(grace_s,)) for each in wires]
        for each in ends:
            each.start()
        for each in ends:
            each.join()
        self.core.close()

    def __enter__(self) -> ModelServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve_models(self) -> None:
        config = self.config
        if config.root is not None:
            self._source = ReleaseFollower(self.core, config.root)
            self._source.start()
        elif config.models_config is not None:
            self.core.apply(read_models_config(config.models_config), "servable")
            if config.models_config_poll_s:
                self._source = ConfigFile(self.core, config.models_config, config.models_config_poll_s)
                self._source.start()
        else:
            self.core.apply(config_of(config.models), "servable")

    def _open_ports(self) -> None:
        config = self.config
        self._grpc.start()
        self.grpc_port = self._grpc.port
        if config.rest_port is not None:
            from serving.server.rest.http_server import make_http_server
            from serving.server.rest.options import RestOptions

            options = RestOptions(
                timeout_s=config.rest_timeout_s,
                metrics_path="/monitoring/prometheus/metrics" if config.metrics else None,
                max_body_bytes=config.max_message_bytes,
                enable_cors=config.rest_cors,
            )
            try:
                self._rest = make_http_server(self.core, config.host, config.rest_port, options)
            except OSError as error:
                where = f"{config.host}:{config.rest_port}"
                raise RunError(
                    f"REST cannot listen on {where}: {error.strerror or error}. Give another port."
                ) from error
            self._rest.start()
            self.rest_port = self._rest.port


def serve_until_signalled(config: ServeConfig, ready: Callable[[ModelServer], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains: calls in flight end within `drain_s`.

    A signal while models load, or a second one while calls end, ends at once: the caller should end the process then,
    for a load cannot be interrupted.

    Args:
      config: what is served, and where.
      ready: called once every model can be called and the ports are open.

    Raises:
      InputError: for a configuration that cannot be used.
      RunError: if the server cannot start.
    """
    signals: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        server = ModelServer(config)
        if not _done(server.start, lambda: bool(signals)):
            return
        ready(server)
        while not signals:
            time.sleep(_SIGNAL_S)
        _done(server.stop, lambda: len(signals) > 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _done(work: Callable[[], object], given_up: Callable[[], bool]) -> bool:
    """Does something in a thread of its own, for a signal must not break into it; false if it was given up before.

    What it raises is raised.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() and not given_up():
        thread.join(_SIGNAL_S)
    if errors:
        raise errors[0]
    return not thread.is_alive()
