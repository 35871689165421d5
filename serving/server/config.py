"""What a server serves, where it listens and what bounds it: everything that `clickmill serve` takes."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from features.config import Strict

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class TlsConfig(Strict):
    """The server's certificate, and whose clients it answers.

    Attributes:
      key: file of the server's private key (PEM).
      certificate: file of its certificate chain (PEM).
      client_ca: file of the authorities that sign clients' certificates (PEM); only clients with such a certificate are
        answered (mutual TLS).
    """

    key: str
    certificate: str
    client_ca: str | None = None


class ServeConfig(Strict):
    """A server: what it serves, where it listens, what bounds it.

    Attributes:
      models: base path of each model by its name; a base path holds a folder a version.
      models_config: file of a `ModelServerConfig` in text form, TensorFlow Serving's models.config.
      models_config_poll_s: seconds between two looks at that file; 0 reads it once.
      root: serving root whose labelled releases are served, and followed as the labels move.
      labels: the labels that are followed there; calls without a version get the release of the first.
      linger_s: seconds that the versions of the former release stay loaded after a label has moved, for callers that
        still hold its version numbers.
      host: address to listen on; only an address of this machine's loopback keeps others out.
      port: of gRPC; 0 takes a free one.
      rest_port: of REST; 0 takes a free one, null serves none.
      tls: certificate and key; without them the connections are not encrypted.
      workers: calls of models that run at a time, over gRPC and REST together.
      queue: calls that wait while all workers are busy; further ones get RESOURCE_EXHAUSTED (REST: 429) at once.
      max_message_bytes: the largest request that is read, over gRPC and REST (TensorFlow Serving's bound is 2 GiB).
      drain_s: seconds that calls in flight get to end after SIGTERM.
      rest_timeout_s: after which a REST call is given up.
      rest_cors: whether REST answers pages of any origin, by `Access-Control-Allow-*` headers.
      metrics: whether REST serves `/monitoring/prometheus/metrics`.
      poll_s: seconds between two looks at the base paths; 0 looks once.
      load_threads: models that load at a time.
      max_load_retries: how often a load that failed is tried again.
      load_retry_s: seconds between two tries.
      warmup: whether warm-up requests of a model are replayed before it is served.
      warmup_iterations: how often each is.
      intra_op_threads: threads of one operation; 0 takes the number of cores. All models share them.
      inter_op_threads: operations that run at a time; 0 takes the number of cores. All models share them.
      allow_labels_before_load: whether a models.config may name labels of versions that are not loaded yet.
      answer_tensor_content: whether answers hold raw bytes rather than repeated fields.
      reload_roots: folders below which the base paths of a reload over gRPC must lie; empty allows any.
      allow_reload: whether gRPC's `HandleReloadConfigRequest` is answered.
    """

    models: dict[str, str] = Field(default_factory=dict)
    models_config: str | None = None
    models_config_poll_s: float = Field(default=0.0, ge=0)
    root: str | None = None
    labels: tuple[str, ...] = ("stable",)
    linger_s: float = Field(default=10.0, ge=0)
    host: str = "127.0.0.1"
    port: int = Field(default=8500, ge=0, le=65535)
    rest_port: int | None = Field(default=8501, ge=0, le=65535)
    tls: TlsConfig | None = None
    workers: int = Field(default=8, ge=1)
    queue: int = Field(default=64, ge=0)
    max_message_bytes: int = Field(default=64 * 2**20, ge=1024, le=2**31 - 1)
    drain_s: float = Field(default=30.0, ge=0)
    rest_timeout_s: float = Field(default=30.0, gt=0)
    rest_cors: bool = False
    metrics: bool = True
    poll_s: float = Field(default=1.0, ge=0)
    load_threads: int = Field(default=1, ge=1)
    max_load_retries: int = Field(default=5, ge=0)
    load_retry_s: float = Field(default=60.0, ge=0)
    warmup: bool = True
    warmup_iterations: int = Field(default=1, ge=1)
    intra_op_threads: int = Field(default=0, ge=0)
    inter_op_threads: int = Field(default=0, ge=0)
    allow_labels_before_load: bool = False
    answer_tensor_content: bool = False
    reload_roots: tuple[str, ...] = ()
    allow_reload: bool = True

    @field_validator("labels")
    @classmethod
    def _some_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if not labels or len(set(labels)) < len(labels) or not all(labels):
            raise ValueError("name at least one label, and each once")
        return labels

    @model_validator(mode="after")
    def _one_source(self) -> ServeConfig:
        given = [bool(self.models), self.models_config is not None, self.root is not None]
        if sum(given) != 1:
            raise ValueError(
                "say what is served in one way: `models` (a base path by name), `models_config` (a file), or `root` "
                "(a serving root with releases)"
            )
        if self.tls is not None and self.rest_port is not None and self.host not in _LOOPBACK:
            raise ValueError("REST is not encrypted: with `tls`, serve it on the loopback alone (`rest_port: null`)")
        if any(not name for name in self.models):
            raise ValueError("a model needs a name")
        return self
