"""How items are hashed and compared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from features.config import Strict

Estimate = Literal["plug_in", "minus_null", "normalized"]


class SimHashConfig(Strict):
    """The hash: which hyperplanes, and how their bits are grouped.

    Attributes:
      num_bits: m, the number of hyperplanes.
      bits_per_signature: tau, the bits of one signature; more bits attend more sharply.
      seed: of the hyperplanes; the same seed and dimension always give the same.
    """

    num_bits: int = Field(48, ge=1)
    bits_per_signature: int = Field(3, ge=1, le=8)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_bits % self.bits_per_signature:
            raise ValueError(
                f"`num_bits` must be a multiple of `bits_per_signature`. Received: `num_bits`={self.num_bits}, "
                f"`bits_per_signature`={self.bits_per_signature}."
            )
        return self

    @property
    def num_groups(self) -> int:
        """G: signatures of a vector."""
        return self.num_bits // self.bits_per_signature

    @property
    def num_buckets(self) -> int:
        """2 ** tau: values that a signature takes."""
        return 2**self.bits_per_signature
