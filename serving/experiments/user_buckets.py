"""Who is in which of a layer's 10,000 buckets, and which variant owns a bucket.

A user's bucket is the keyed BLAKE2b (RFC 7693) of the user's id under the layer's salt: the same in every process, on
every machine and in any language, and independent between salts. Variants own buckets; a new version of the shares
hands over as few as there must be.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from features.errors import InputError
from serving.experiments.config import NUM_BUCKETS

NOBODY = ""
"""Owns the buckets that no variant has: no variant's name is empty."""


class BucketHash:
    """Hashes users under a salt.

    Args:
      salt: of the layer, up to 64 bytes.
    """

    def __init__(self, salt: str):
        self._start = hashlib.blake2b(key=salt.encode(), digest_size=8)

    def bucket(self, user: str | int) -> int:
        """Returns a user's bucket, 0 … 9,999; the string "7" and the number 7 are two users.

        Raises:
          InputError: if `user` is neither a string of Unicode characters nor an integer.
        """
        state = self._start.copy()
        state.update(_user_bytes(user))
        return int.from_bytes(state.digest(), "little") * NUM_BUCKETS >> 64

    def buckets(self, users: Iterable[str | int]) -> np.ndarray:
        """Returns the buckets of users, [n] int64."""
        return np.fromiter((self.bucket(user) for user in users), np.int64)


def owners(versions: Sequence[Mapping[str, int]]) -> list[str]:
    """Returns which variant owns each of the 10,000 buckets after the last of several versions.

    From one version to the next, a variant whose share falls gives up the buckets that it got last, and those that grow
    take them, ordered by name; what no variant has counts as one more. So exactly as many buckets change hands as the
    shares differ by, and a share that is raised and lowered again has its first users back.

    Args:
      versions: shares by variant in 1/10,000, the oldest first; a variant that is not named has none.
    """
    held = {NOBODY: list(range(NUM_BUCKETS))}  # buckets of each variant, in the order in which it got them
    for shares in versions:
        wanted = dict.fromkeys(held, 0) | dict(shares) | {NOBODY: NUM_BUCKETS - sum(shares.values())}
        given_up: list[int] = []
        for name in sorted(held):
            given_up += held[name][wanted[name] :]
            held[name] = held[name][: wanted[name]]
        left = iter(given_up)
        for name in sorted(wanted):
            buckets = held.setdefault(name, [])
            buckets += itertools.islice(left, wanted[name] - len(buckets))
    owner = [NOBODY] * NUM_BUCKETS
    for name, buckets in held.items():
        for bucket in buckets:
            owner[bucket] = name
    return owner


def _user_bytes(user: str | int) -> bytes:
    if isinstance(user, str):
        try:
            return b"s" + user.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"`user` holds half of a surrogate pair, which is no character. Received: {user!r}."
            ) from error
    if isinstance(user, int) and not isinstance(user, bool):
        return b"i%d" % user
    raise InputError(f"`user` must be a string or an integer. Received: {user!r} ({type(user).__name__}).")
