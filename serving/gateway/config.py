"""Where the gateway listens, whom it asks, and what bounds it: everything that `clickmill gateway` takes."""

from __future__ import annotations

from pydantic import Field, model_validator

from features.config import Strict
from serving.release.manifest import LATEST


class StageDeadlines(Strict):
    """Milliseconds that each part of a request may take; what is late is left out, and the answer says so.

    Attributes:
      lookup_ms: reading the profile and the bucket table. They are read while the retrieval runs.
      retrieve_ms: the retrieval.
      coarse_ms: the coarse ranker.
      fine_ms: the fine ranker.
      explain_ms: the fine ranker's attention, where a request asks for it; it comes on top of the whole's deadline.
    """

    lookup_ms: float = Field(50.0, gt=0)
    retrieve_ms: float = Field(150.0, gt=0)
    coarse_ms: float = Field(150.0, gt=0)
    fine_ms: float = Field(150.0, gt=0)
    explain_ms: float = Field(2000.0, gt=0)


class GatewayConfig(Strict):
    """A gateway.

    Attributes:
      root: serving root whose releases are served, a folder of this machine.
      label: of the release that is followed; `latest` is the newest.
      server: address of TensorFlow Serving's gRPC, which serves the same root.
      host: address to listen on; only an address of this machine's loopback keeps others out.
      port: of HTTP; 0 takes a free one.
      deadline_ms: milliseconds from the start of a request to its answer, a degraded one in the worst case.
      deadlines: of the parts.
      max_concurrent: requests that are worked on at a time.
      max_waiting: requests that wait for a place; further ones, and those that would be late, are refused at once.
      poll_s: seconds between two looks at the label.
      max_open_releases: releases beside the followed one that stay open for experiments and side-by-side requests.
      experiments: YAML file of the experiments; None: there are none.
      exposure_log: folder that shown lists are logged to; None: nothing is logged.
      allow_forced: whether requests of a layer's testers may force its variants.
      allow_releases: whether a request may name another release.
      max_body_bytes: the largest HTTP body that is read.
      max_message_bytes: the largest answer of the server that is read.
      drain_s: seconds that requests in flight get to end after SIGTERM.
      seed: of the exploration; None: another one at every start.
    """

    root: str
    label: str = LATEST
    server: str = "127.0.0.1:8500"
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    deadline_ms: float = Field(500.0, gt=0)
    deadlines: StageDeadlines = StageDeadlines()
    max_concurrent: int = Field(8, ge=1)
    max_waiting: int = Field(64, ge=0)
    poll_s: float = Field(1.0, gt=0)
    max_open_releases: int = Field(4, ge=1)
    experiments: str | None = None
    exposure_log: str | None = None
    allow_forced: bool = True
    allow_releases: bool = True
    max_body_bytes: int = Field(4 * 2**20, ge=1024)
    max_message_bytes: int = Field(64 * 2**20, ge=1024, le=2**31 - 1)
    drain_s: float = Field(10.0, ge=0)
    seed: int | None = None

    @model_validator(mode="after")
    def _stages_fit(self) -> GatewayConfig:
        stages = self.deadlines.retrieve_ms + self.deadlines.coarse_ms + self.deadlines.fine_ms
        if stages > self.deadline_ms:
            raise ValueError(
                "the stages run one after another: `retrieve_ms` + `coarse_ms` + `fine_ms` ≤ `deadline_ms`, or a stage "
                f"that hangs leaves none for the others. Received: {stages:g} > {self.deadline_ms:g}."
            )
        return self
