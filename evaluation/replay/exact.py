"""Sums of doubles that do not depend on the order of their summands, in no bit.

A summand is cut once to an integer multiple of 2⁻⁶⁰ (8.7e-19), towards 0, which three 64-bit integers (limbs) hold:

    x = top · 2²⁰ + middle · 2⁻²⁰ + low · 2⁻⁶⁰,   |middle|, |low| < 2⁴⁰.

Limbs are added as integers, which is exact, and carried over until 0 ≤ middle, low < 2⁴⁰. So equal multisets of
summands have equal limbs, however they were split and merged; a double is made of them only where a value is wanted. It
is the idea of the long accumulator (Kulisch, 2011), at fixed width.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array
from features.errors import InputError

BITS = 40
LIMIT = 2.0**60
"""Summands lie below it."""

_MASK = np.int64((1 << BITS) - 1)
_GROUP = 1 << 22  # so many limbs of 40 bits add up within 63
_TOP, _MIDDLE, _LOW = 2.0**20, 2.0**-20, 2.0**-60


def to_limbs(values: Array, what: str = "a summand") -> Array:
    """Cuts doubles into limbs.

    Args:
      values: [N].
      what: how an error calls them.

    Returns:
      [3, N] int64: top, middle, low.

    Raises:
      InputError: for a value that is not finite, or not below 2⁶⁰ in size.
    """
    values = np.asarray(values, np.float64)
    bad = ~(np.abs(values) < LIMIT)
    if bad.any():
        raise InputError(
            f"{what} must be finite and below 2**60 in size; scale the reward. Received: {values[bad.argmax()]}."
        )
    limbs = np.empty((3, len(values)), np.int64)
    rest = values
    for limb, unit in zip(limbs, (_TOP, _MIDDLE, _LOW), strict=True):
        whole = np.trunc(rest / unit)  # towards 0: from -0.1 down to a multiple of 2^20, the rest would be rounded
        limb[:] = whole
        rest = rest - whole * unit
    return limbs


def add_groups(limbs: Array, starts: Array) -> Array:
    """Adds limbs of neighbours.

    Args:
      limbs: [3, N], the lower two below 2⁴⁰ in size.
      starts: [G] where each group begins, rising, the first 0; every group has a member.

    Returns:
      [3, G], carried.
    """
    if not len(starts):
        return np.empty((3, 0), np.int64)
    cuts = np.union1d(starts, np.arange(0, limbs.shape[1], _GROUP))
    sums = _carried(np.add.reduceat(limbs, cuts, axis=1))
    if len(cuts) == len(starts):
        return sums
    return _carried(np.add.reduceat(sums, np.searchsorted(cuts, starts), axis=1))


def to_doubles(limbs: Array) -> Array:
    """The values [G] of limbs [3, G], each within two roundings of the exact sum."""
    top, middle, low = limbs.astype(np.float64)
    return (top * _TOP + middle * _MIDDLE) + low * _LOW


def _carried(limbs: Array) -> Array:
    """Carries what is over 40 bits into the next limb, in place."""
    for low, high in ((2, 1), (1, 0)):
        limbs[high] += limbs[low] >> BITS
        limbs[low] &= _MASK
    return limbs
