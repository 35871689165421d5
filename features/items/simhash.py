"""SimHash: signatures of vectors whose collision probability falls with the angle between them.

Of m random hyperplanes each gives one bit, tau bits side by side form a signature, and G = m / tau signatures make
the hash of a vector (Cao et al., "Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR Prediction",
CIKM 2022, arXiv 2205.10249, Eq. 6-8). Two vectors at angle theta agree in one signature with probability
(1 - theta / pi) ** tau (Eq. 13).

The bits are exact, so that NumPy here and TensorFlow in `models/sdim/buckets.py` agree by construction and not by
luck: the
hyperplanes are integers, each vector is scaled by its largest entry and rounded to integers of 20 bits, and float64
adds such products without rounding, in any order, with or without fused multiply-add. Rounding turns a vector by at
most sqrt(dim) / 2 ** 21 rad.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from features.items.config import SimHashConfig

SCALE_BITS = 20
"""Bits of the rounded entries of vectors and, per standard deviation, of the hyperplanes."""

MAX_DIM = 4096

FLOAT32_TINY = float(np.finfo(np.float32).tiny)
"""Entries below the smallest normal float32 count as 0: TensorFlow's threads flush them, NumPy's do not."""

_CHUNK_ROWS = 16_384


class SimHash:
    """Hashes vectors of one dimension.

    Attributes:
      dim: entries of a vector.
      config: the hash.
    """

    def __init__(self, dim: int, config: SimHashConfig | None = None):
        """Raises ValueError if `dim` is not in 1..4096."""
        if not 1 <= dim <= MAX_DIM:
            raise ValueError(f"`dim` must be in 1..{MAX_DIM}. Received: `dim`={dim}")
        self.dim = dim
        self.config = config or SimHashConfig()

    @cached_property
    def matrix(self) -> np.ndarray:
        """The hyperplanes: [m, dim] float64 that hold integers, rint(gauss * 2 ** 20)."""
        shape = (self.config.num_bits, self.dim)
        gauss = np.random.Generator(np.random.PCG64(self.config.seed)).standard_normal(shape)
        matrix = np.rint(gauss * 2**SCALE_BITS)
        # Whatever part of a projection is added first, it stays an integer that float64 holds.
        largest = np.abs(matrix).sum(axis=1).max() * 2**SCALE_BITS
        if largest >= 2**53:
            raise ValueError(f"`dim`={self.dim} with `seed`={self.config.seed} is too large for exact sums.")
        return matrix

    def signatures(self, vectors: np.ndarray) -> np.ndarray:
        """Hashes each vector.

        A bit is set where the projection is positive; the first bit of a group is its most significant. The length of a
        vector does not matter; a vector of zeros has signatures 0.

        Args:
          vectors: [n, dim] float32 (others are converted).

        Returns:
          [n, G] uint8 in 0..2 ** tau - 1.

        Raises:
          ValueError: if the shape is another, or an entry is not finite.
        """
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"`vectors` must be of shape [n, {self.dim}]. Received: {list(vectors.shape)}")
        config = self.config
        weights = 2 ** np.arange(config.bits_per_signature - 1, -1, -1, dtype=np.uint8)
        signatures = np.empty((len(vectors), config.num_groups), np.uint8)
        for start in range(0, len(vectors), _CHUNK_ROWS):
            projections = _integers(vectors[start : start + _CHUNK_ROWS]) @ self.matrix.T
            bits = (projections > 0).reshape(len(projections), config.num_groups, config.bits_per_signature)
            signatures[start : start + _CHUNK_ROWS] = (bits * weights).sum(axis=2, dtype=np.uint8)
        return signatures


def _integers(vectors: np.ndarray) -> np.ndarray:
    """Scales each row by its largest |entry| to integers within ±2 ** 20, [n, dim] float32 to float64."""
    wide = vectors.astype(np.float64)
    size = np.abs(wide)
    wide[size < FLOAT32_TINY] = 0.0
    largest = size.max(axis=1, keepdims=True, initial=0.0)
    if not np.isfinite(largest).all():
        raise ValueError("`vectors` must be finite. Received: a row with NaN or infinity.")
    return np.rint(wide / np.maximum(largest, FLOAT32_TINY) * 2**SCALE_BITS)
