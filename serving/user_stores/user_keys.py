"""Keys of users in a store: they keep the type of an id, and sort integers by value."""

from __future__ import annotations

import hashlib

import numpy as np

from features.errors import InputError

MAX_KEY_BYTES = 511
"""LMDB's limit."""


class RecordError(InputError):
    """A key or a record that is not what the store's format says."""


def user_key(user: str | int) -> tuple[bytes, bytes | None]:
    """Returns a user's key, and the whole id where the key cannot hold it.

    Strings and integers of the same digits are different users. Integers sort by value. A string too long for LMDB is
    known by its digest.

    Raises:
      TypeError: for other types.
      OverflowError: for integers beyond 64 bits.
    """
    if isinstance(user, str):
        text = user.encode("utf-8")
        if len(text) < MAX_KEY_BYTES:
            return b"s" + text, None
        return b"t" + hashlib.blake2b(text).digest(), text
    if isinstance(user, bool) or not isinstance(user, int | np.integer):
        raise TypeError(f"`user` must be a string or an integer. Received: {type(user).__name__}")
    return b"i" + (int(user) + 2**63).to_bytes(8, "big"), None


def user_of(key: bytes, long_id: bytes | None = None) -> str | int:
    """The inverse of `user_key`. Raises RecordError if the key is none."""
    kind, rest = key[:1], key[1:]
    if kind == b"s":
        return rest.decode("utf-8")
    if kind == b"i" and len(rest) == 8:
        return int.from_bytes(rest, "big") - 2**63
    if kind == b"t" and long_id is not None:
        return long_id.decode("utf-8")
    raise RecordError(f"a key is no user: {key[:20]!r}")
