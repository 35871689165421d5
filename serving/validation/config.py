"""How a model is tried before it is pushed: the section `serving` of a profile. Imports no TensorFlow."""

from __future__ import annotations

from pydantic import Field

from features.config import Strict


class ServingSection(Strict):
    """The trial of a model on the embedded server before it is pushed.

    Attributes:
      p99_ms: the budget: 99 of 100 calls must be answered within so many milliseconds. A page waits for all stages of a
        cascade together; a quarter of a second for one of them, on the machine that trained it and beside whatever else
        runs there, tells a model that cannot be served from one that can. Set what your page allows.
      concurrency: clients that call at the same time, each with one call on its way. Four keep a small machine's cores
        busy, so that waiting for one another is part of what is measured.
      calls: that the clients make together. Of 300 the three slowest lie above p99; it takes some seconds.
      candidates: of a request of the load; real ones, repeated where a request has fewer. 200 are what the coarse stage
        lets through; a two-tower is asked for `retrieve` as many.
      rows: real requests whose answers are compared. The export holds 32 at most.
    """

    p99_ms: float = Field(250.0, gt=0)
    concurrency: int = Field(4, ge=1, le=64)
    calls: int = Field(300, ge=10, le=100_000)
    candidates: int = Field(200, ge=1, le=10_000)
    rows: int = Field(16, ge=1, le=32)
