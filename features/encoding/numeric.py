"""Numeric transforms, written once for NumPy and TensorFlow.

Every function takes `ops`, the few operations that differ between the two (`NumpyOps` here,
`serving/export/transforms.py` for
TensorFlow); the rest are operators. All is float64 until the last cast and built of operations that IEEE 754 defines to
the bit, so that both give the same bits; hence a logarithm of our own, where libraries differ in the last place, and
products with a stored reciprocal, where a graph compiler may replace a division.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Of NumPy or of TensorFlow: what `ops` works on.
Array = Any

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)
"""Smallest normal float32. Smaller numbers count as 0: TensorFlow's kernels flush subnormals, NumPy does not."""

_MIN_SCALE = 1e-30

# Kernel and coefficients of FreeBSD's e_log.c (Sun Microsystems, 1993): error below 1 unit in the last place.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_L1, _L2, _L3 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01
_L4, _L5 = 2.222219843214978396e-01, 1.818357216161805012e-01
_L6, _L7 = 1.531383769920937332e-01, 1.479819860511658591e-01
_SQRT2 = 1.4142135623730951


class NumpyOps:
    """What `transform` needs of an array library, in NumPy."""

    where = staticmethod(np.where)
    floor = staticmethod(np.floor)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    absolute = staticmethod(np.abs)

    @staticmethod
    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns m in [1, 2) and k, both float64, with x = m * 2^k, for normal positive x."""
        bits = np.ascontiguousarray(x, np.float64).view(np.int64)
        mantissa = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000).view(np.float64)
        return mantissa, ((bits >> 52) - 1023).astype(np.float64)


def clean(x: Array, ops: Any = NumpyOps) -> Array:
    """Clips float64 numbers to the range of float32 (infinities too) and flushes what is below it to 0; no NaN."""
    x = ops.minimum(ops.maximum(x, -FLOAT32_MAX), FLOAT32_MAX)
    return ops.where(ops.absolute(x) < FLOAT32_TINY, 0.0, x)


def natural_log(x: Array, ops: Any = NumpyOps) -> Array:
    """log(x) of normal positive float64 numbers; the same bits in every `ops`."""
    mantissa, exponent = ops.split(x)
    high = mantissa > _SQRT2
    exponent = ops.where(high, exponent + 1.0, exponent)
    f = ops.where(high, mantissa * 0.5, mantissa) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (_L2 + w * (_L4 + w * _L6))
    even = z * (_L1 + w * (_L3 + w * (_L5 + w * _L7)))
    half_square = f * f * 0.5
    return exponent * _LN2_HIGH - ((half_square - (s * (half_square + (even + odd)) + exponent * _LN2_LOW)) - f)


def transform(x: Array, name: str, center: float, scale: float, ops: Any = NumpyOps) -> Array:
    """Transforms clean numbers (`clean`; no NaN), float64 to float64 in the range of float32.

    Args:
      x: float64, any shape.
      name: `none`: x. `log_squared`: log(x)² for x > 2, else x (AutoInt, arXiv 1810.11921, section 5.1).
        `log_squared_floor`: its floor (the AutoInt authors' code). `standardize`, `min_max`: (x - center) * scale.
      center, scale: of the last two; see `center_and_scale`.
    """
    if name in ("log_squared", "log_squared_floor"):
        large = x > 2.0
        log = natural_log(ops.where(large, x, 3.0), ops)
        x = ops.where(large, log * log, x)
        if name == "log_squared_floor":
            x = ops.floor(x)
    elif name in ("standardize", "min_max"):
        x = (x - center) * scale
    return clean(x, ops)


def center_and_scale(name: str, mean: float, std: float, minimum: float, maximum: float) -> tuple[float, float]:
    """Returns what `standardize` and `min_max` subtract and multiply by. A constant feature becomes 0."""
    if name == "standardize":
        center, width = mean, std
    elif name == "min_max":
        center, width = minimum, maximum - minimum
    else:
        return 0.0, 1.0
    return center, (1.0 / width if width > _MIN_SCALE else 0.0)
