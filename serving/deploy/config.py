"""How a release is served by TensorFlow Serving: what is configured of it. Imports no TensorFlow."""

from __future__ import annotations

from pydantic import Field, model_validator
from typing_extensions import Self

from features import storage
from features.config import Strict
from serving.saved.signature_specs import MAX_REQUESTS

#: Where the server finds its configuration, in a container.
CONFIG_FOLDER = "/etc/clickmill"


class Batching(Strict):
    """TensorFlow Serving's batching: what it may merge into one run of a model (session_bundle_config.proto).

    Attributes:
      enabled: whether the server merges requests. Off by default: merging saves processor time, of short slates most of
        it and of long ones a third, but a merged run takes longer than each request alone would, every answer waits for
        it, and all slates are filled up to the longest. It is for a server that runs out of processor by many short
        slates of one length; `python -m benchmarks batching` measures an export of one's own.
      max_batch_size: requests in one run at most, counted along the first dimension. Not below 32, the largest request
        that exports warm up with: a server refuses to load a model whose warm-up request is larger.
      timeout_micros: how long a request waits for company, in microseconds, once a thread is free. 0: not at all, so
        that only requests that queue anyway are merged.
      max_enqueued_batches: full batches that wait at most; what comes then is refused as UNAVAILABLE.
    """

    enabled: bool = False
    max_batch_size: int = Field(default=MAX_REQUESTS, ge=MAX_REQUESTS)
    timeout_micros: int = Field(default=0, ge=0)
    max_enqueued_batches: int = Field(default=4, ge=1)


class GatewayDeployment(Strict):
    """The gateway in front of the servers: `clickmill gateway`.

    Attributes:
      image: with Clickmill installed, one of your own: its command is `clickmill gateway …`.
      label: of the release that is followed, one of those that the servers are configured with.
      port: of HTTP.
      cpus: cores of one gateway.
      memory_mb: of one gateway, in MiB: twice its catalogue, since two releases are open during a switch.
      replicas: gateways that Kubernetes keeps up.
      behaviors: whether behaviours are taken in. The serving root is then mounted to be written, by one gateway alone:
        the stores of profiles and bucket tables are memory that is mapped, and are not for several machines.
      drain_seconds: that requests in flight get to end after SIGTERM.
    """

    image: str = Field(min_length=1)
    label: str = Field(default="stable", pattern="^[a-z][a-z0-9_-]*$")
    port: int = Field(default=8080, ge=1024, le=65535)
    cpus: int = Field(default=1, ge=1)
    memory_mb: int = Field(default=1024, ge=256)
    replicas: int = Field(default=2, ge=1)
    behaviors: bool = False
    drain_seconds: int = Field(default=10, ge=1, le=600)

    @property
    def kept_up(self) -> int:
        """How many gateways run: one, where it writes."""
        return 1 if self.behaviors else self.replicas


class Deployment(Strict):
    """A server, or several alike, for the models of a release, and a gateway in front of them where one is asked for.

    Attributes:
      name: of the service, its containers and what belongs to it.
      image: of TensorFlow Serving. Its TensorFlow is not older than the one that exported the models.
      base: the serving root as the server sees it, an absolute path or a URI.
      root: the serving root as the machine sees it that runs compose.yaml: absolute, or relative to that file (`./…`).
      volume_claim: PersistentVolumeClaim of Kubernetes that holds the serving root.
      grpc_port: for PredictionService and ModelService.
      rest_port: for REST and the metrics.
      callers: calls that may be on their way to one server at once, of all its clients together.
      cpus: cores of one server. Its TensorFlow threads are set to them: by itself it takes those of the whole machine,
        whatever the container's limit is.
      memory_mb: of one server, in MiB: twice its models, since old and new versions stand beside each other during a
        switch, and what unloading frees does not all go back to the system.
      replicas: servers that Kubernetes keeps up.
      drain_seconds: from the moment that a server is to go until it is stopped. Its clients leave by themselves within
        two thirds of it, since a connection lives no longer; TensorFlow Serving does not handle SIGTERM.
      rest_timeout_ms: after which a REST call is given up.
      batching: what the server may merge.
      gateway: that answers requests for a user over these servers; None: there is none.
    """

    name: str = Field(default="clickmill-serving", pattern="^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$")
    image: str = Field(default="tensorflow/serving:2.16.1", min_length=1)
    base: str = "/models"
    root: str = "../serving_models"
    volume_claim: str = Field(default="clickmill-models", pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    grpc_port: int = Field(default=8500, ge=1024, le=65535)
    rest_port: int = Field(default=8501, ge=1024, le=65535)
    callers: int = Field(default=64, ge=1, le=10_000)
    cpus: int = Field(default=2, ge=1)
    memory_mb: int = Field(default=2048, ge=256)
    replicas: int = Field(default=2, ge=1)
    drain_seconds: int = Field(default=30, ge=3, le=600)
    rest_timeout_ms: int = Field(default=30_000, ge=1)
    batching: Batching = Batching()
    gateway: GatewayDeployment | None = None

    @model_validator(mode="after")
    def _can_be_served(self) -> Self:
        if storage.is_local(self.base) and not self.base.startswith("/"):
            raise ValueError(
                f"`base` must be an absolute path or a URI: TensorFlow Serving asks so. Got {self.base!r}."
            )
        if not self.root.startswith(("/", ".")):
            raise ValueError(f"`root` must begin with `/` or `.`: compose.yaml asks so. Got {self.root!r}.")
        if self.grpc_port == self.rest_port:
            raise ValueError(f"`grpc_port` and `rest_port` must differ. Got {self.grpc_port} for both.")
        if self.gateway is not None and self.gateway.port in (self.grpc_port, self.rest_port):
            raise ValueError(f"`gateway.port` must differ from the servers' ports. Got {self.gateway.port}.")
        if self.gateway is not None and not storage.is_local(self.base):
            raise ValueError(f"a gateway reads the serving root from a volume: `base` is a path. Got {self.base!r}.")
        return self

    @property
    def grpc_threads(self) -> int:
        """Threads of the gRPC server, `--grpc_max_threads`.

        A thread carries one call, and some only wait for the next: 8 threads, the default of two cores, carry 5 callers
        and answer 8 callers with `Server Threadpool Exhausted` (measured on 2.16.1). Twice the callers and a few more
        leave room; a thread that waits costs only its stack.
        """
        return 2 * self.callers + 16
