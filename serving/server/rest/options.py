"""How the REST interface of the server behaves: `RestOptions`. Imports neither TensorFlow nor the server."""

from __future__ import annotations

from pydantic import Field

from features.config import Strict


class RestOptions(Strict):
    """Settings of the REST interface; the defaults are those of TF Serving where it has the setting.

    Attributes:
      timeout_s: Seconds after which a request is given up with DEADLINE_EXCEEDED (TF Serving: 30).
      enable_cors: Whether answers carry `Access-Control-Allow-*` headers, for pages of any origin (TF Serving: off).
      metrics_path: The path that answers Prometheus' metrics, or null for none.
      max_body_bytes: The largest body that is read, before and after unpacking; a larger one is answered with 413.
      max_connections: Open connections, each of which holds a thread; one more is answered with 503 and closed.
      idle_timeout_s: Seconds that a connection may send nothing, between two requests or inside one.
    """

    timeout_s: float = Field(30.0, gt=0)
    enable_cors: bool = False
    metrics_path: str | None = "/monitoring/prometheus/metrics"
    max_body_bytes: int = Field(64 * 2**20, gt=0)
    max_connections: int = Field(256, gt=0)
    idle_timeout_s: float = Field(60.0, gt=0)
