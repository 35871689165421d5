"""A stable 64-bit hash of strings and integers, vectorised over Arrow arrays.

It shards users and fills out-of-vocabulary and hash buckets, so it must never change: the exported models hold it too
(`serving/export/transforms.py` computes the same bits in TensorFlow). All arithmetic is modulo 2^64:

    strings:   hash = mix(sum_i byte_i * P^i + (length + 1) * G)      over the UTF-8 bytes, P odd
    integers:  hash = mix(value + G)
    null:      hash = NULL_HASH

with `mix` the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA
2014) and G its increment. The length tells apart strings that differ by trailing zero bytes. It spreads well and is
not meant to withstand an adversary.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

MULTIPLIER = 0x9FB21C651E98DF25
"""P: odd, hence invertible modulo 2^64."""

INCREMENT = 0x9E3779B97F4A7C15
"""G: 2^64 divided by the golden ratio."""

MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB

NULL_HASH = 0x6E756C6C6E756C6C
"""Of nulls."""

_INVERSE = pow(MULTIPLIER, -1, 1 << 64)
_CHUNK_BYTES = 1 << 18


def hash64(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Hashes each value.

    Args:
      values: [N] strings, binary, integers, or a dictionary array of these. Integers of every width hash alike.

    Returns:
      [N] uint64.

    Raises:
      TypeError: for other types.
    """
    if isinstance(values, pa.ChunkedArray):
        parts = [hash64(chunk) for chunk in values.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    kind = values.type
    if pa.types.is_dictionary(kind):
        # The null's hash stands at the end, where index -1 finds it.
        table = np.append(hash64(values.dictionary), np.uint64(NULL_HASH))
        return table[values.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)]
    if pa.types.is_null(kind):
        return np.full(len(values), NULL_HASH, np.uint64)
    if pa.types.is_integer(kind):
        hashes = _hash_integers(values)
    elif kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        hashes = _hash_bytes(values)
    else:
        raise TypeError(f"`values` must hold strings or integers. Received: {kind}. Cast them first.")
    if values.null_count:
        hashes[values.is_null().to_numpy(zero_copy_only=False)] = NULL_HASH
    return hashes


def mix(hashes: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 on uint64: every input bit changes every output bit with probability near 1/2."""
    hashes = hashes ^ (hashes >> np.uint64(30))
    hashes *= np.uint64(MIX_1)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(MIX_2)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def _hash_integers(values: pa.Array) -> np.ndarray:
    if not pa.types.is_uint64(values.type):
        values = values.cast(pa.int64())
    filled = values.fill_null(0) if values.null_count else values
    return mix(filled.to_numpy(zero_copy_only=False).view(np.uint64) + np.uint64(INCREMENT))


def _hash_bytes(values: pa.Array) -> np.ndarray:
    width = np.int64 if values.type in (pa.large_string(), pa.large_binary()) else np.int32
    _, offsets, data = values.buffers()
    if len(values) == 0 or offsets is None:
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(offsets, width)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    data = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    sums = np.empty(len(values), np.uint64)
    tables = _tables(min(_CHUNK_BYTES, int(offsets[-1] - offsets[0])))
    row = 0
    while row < len(values):
        # As many rows as fit in a chunk, one at least. Powers count from the chunk's first byte, so that the table is
        # read in order; multiplying by the inverse power of each string's start makes them count from its own.
        stop = int(np.searchsorted(offsets, offsets[row] + _CHUNK_BYTES, side="right")) - 1
        stop = min(max(stop, row + 1), len(values))
        bounds = offsets[row : stop + 1]
        base, size = bounds[0], int(bounds[-1] - bounds[0])
        powers, inverses = tables = tables if size < len(tables[0]) else _tables(size)
        prefix = np.zeros(size + 1, np.uint64)
        np.cumsum(data[base : base + size] * powers[:size], out=prefix[1:])
        starts = bounds - base
        total = prefix[starts]
        sums[row:stop] = (total[1:] - total[:-1]) * inverses[starts[:-1]]
        row = stop
    lengths = (offsets[1:] - offsets[:-1] + 1).astype(np.uint64)
    return mix(sums + lengths * np.uint64(INCREMENT))


def _tables(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers 0..size of P and of its inverse, modulo 2^64."""
    powers = np.full(size + 1, MULTIPLIER, np.uint64)
    inverses = np.full(size + 1, _INVERSE, np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers, out=powers), np.cumprod(inverses, out=inverses)
