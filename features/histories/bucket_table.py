"""Bucket tables: a user's long history as sums of item embeddings by SimHash signature.

The table does not know the candidates: it is made once per user, and each candidate only reads the G buckets that its
own signatures name (SDIM, arXiv 2205.10249, Eq. 9-12; the table is what its Behavior Sequence Encoding server keeps).
Raw sums and counts are kept, not normalised rows: sums add up, so a behaviour is appended or expired exactly.

Exactly, to the last bit, as long as no sum reaches 4,096: values are rounded to a grid of 2^-36, on which float64 adds
up without an error. So a table does not depend on the order of its behaviours, nor on what came and went meanwhile. A
table's `sums` are these sums rounded to float32 once, and `rest` is what that rounding left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: What values are rounded to before they are added up.
GRID = np.float32(2.0**-36)

#: From here on every float32 lies on the grid.
_ON_GRID = np.float32(2.0**-12)


def on_grid(values: np.ndarray) -> np.ndarray:
    """Returns float32 values rounded to multiples of `GRID`, which float32 holds as they are."""
    values = np.asarray(values, np.float32)
    small = np.abs(values) < _ON_GRID
    return np.where(small, np.rint(np.where(small, values, 0) / GRID) * GRID, values)


def one_hot(signatures: np.ndarray, num_buckets: int, dtype: type = np.float32) -> np.ndarray:
    """Returns [n, G * num_buckets] with a one for each signature.

    Args:
      signatures: [n, G] integers in 0..num_buckets - 1.
      num_buckets: 2 ** tau.
      dtype: of the result.
    """
    # Rows of a unit matrix: eight times as fast as comparing with each bucket.
    rows: np.ndarray = np.eye(num_buckets, dtype=dtype).take(signatures, axis=0)
    return rows.reshape(len(signatures), signatures.shape[1] * num_buckets)


def bucket_sums(values: np.ndarray, signatures: np.ndarray, num_buckets: int) -> np.ndarray:
    """Adds up values by group and signature, as one product with the one-hot signatures.

    Args:
      values: [L, d] float32.
      signatures: [L, G] integers in 0..num_buckets - 1.
      num_buckets: 2 ** tau.

    Returns:
      [G, num_buckets, d] float64, exact sums of the values on the grid.
    """
    sums = one_hot(signatures, num_buckets, np.float64).T @ on_grid(values).astype(np.float64)
    return sums.reshape(signatures.shape[1], num_buckets, values.shape[1])


@dataclass(frozen=True, eq=False)
class BucketTable:
    """One user's buckets.

    Attributes:
      sums: [G, 2 ** tau, d] float32, the sum of the embeddings of the behaviours in each bucket.
      counts: [G, 2 ** tau] int32, how many behaviours are in each bucket.
      rest: [G, 2 ** tau, d] float32, what rounding to float32 left of the exact sums; None: not known, taken for zero.
        Only who appends or expires needs it.
    """

    sums: np.ndarray
    counts: np.ndarray
    rest: np.ndarray | None = None

    @classmethod
    def empty(cls, num_groups: int, num_buckets: int, dim: int) -> BucketTable:
        """Returns the table of a user without behaviours."""
        shape = (num_groups, num_buckets)
        zeros = (np.zeros((*shape, dim), np.float32) for _ in range(2))
        return cls(next(zeros), np.zeros(shape, np.int32), next(zeros))

    @classmethod
    def build(
        cls, values: np.ndarray, signatures: np.ndarray, num_buckets: int, known: np.ndarray | None = None
    ) -> BucketTable:
        """Fills a table with a history.

        Args:
          values: [L, d] float32 embeddings of the behaviours.
          signatures: [L, G] their signatures, integers in 0..num_buckets - 1.
          num_buckets: 2 ** tau.
          known: [L] bool: the others (padding, items without a signature) are left out. Default: all are known.

        Raises:
          ValueError: if shapes disagree, a signature has no bucket, or a value is not finite.
        """
        values, signatures = np.asarray(values, np.float32), np.asarray(signatures)
        if values.ndim != 2 or signatures.ndim != 2 or len(values) != len(signatures):
            raise ValueError(
                "`values` and `signatures` must be [L, d] and [L, G]. Received: "
                f"{list(values.shape)} and {list(signatures.shape)}"
            )
        if known is not None:
            values, signatures = values[known], signatures[known]
        check_signatures(signatures, num_buckets)
        if not np.isfinite(values).all():
            raise ValueError("`values` must be finite. Received: a row with NaN or infinity.")
        # A column of ones is counted by the same product.
        wide = np.concatenate([values, np.ones((len(values), 1), np.float32)], axis=1)
        return cls.from_wide(bucket_sums(wide, signatures, num_buckets))

    @classmethod
    def from_wide(cls, wide: np.ndarray) -> BucketTable:
        """Splits exact sums, [G, 2 ** tau, d + 1] float64, whose last column counts."""
        sums, rest = rounded(wide[..., :-1])
        return cls(sums, wide[..., -1].astype(np.int32), rest)

    @property
    def num_buckets(self) -> int:
        return self.sums.shape[1]

    @property
    def dim(self) -> int:
        return self.sums.shape[2]

    def append(self, value: np.ndarray, signature: np.ndarray) -> None:
        """Adds a behaviour, in place.

        Args:
          value: [d] float32, its embedding.
          signature: [G] integers in 0..2 ** tau - 1.

        Raises:
          ValueError: if a shape is another, the signature has no bucket, or the value is not finite.
        """
        value, rows = self._row(value, signature)
        self._add(rows, value)
        self.counts[rows] += 1

    def expire(self, value: np.ndarray, signature: np.ndarray) -> None:
        """Takes a behaviour out again, in place; the arguments are those of `append`.

        A bucket that becomes empty is exactly zero, also of a table whose rest is not known: what rounding left there
        would be normalised to length 1.

        Raises:
          ValueError: as `append`; and, with nothing changed, if a bucket is empty already: this behaviour is not there.
        """
        value, rows = self._row(value, signature)
        if (self.counts[rows] < 1).any():
            raise ValueError(f"the behaviour is not in the table: bucket {self.counts[rows].argmin()} is empty.")
        self._add(rows, -value)
        self.counts[rows] -= 1
        self.sums[self.counts == 0] = 0.0
        if self.rest is not None:
            self.rest[self.counts == 0] = 0.0

    def normalised(self) -> np.ndarray:
        """Returns the sums scaled to length 1, [G, 2 ** tau, d] float32; empty buckets and zero sums stay zero."""
        # Squares in float64 neither overflow nor vanish.
        wide = self.sums.astype(np.float64)
        norms = np.sqrt(np.einsum("gbd,gbd->gb", wide, wide))[..., np.newaxis]
        return np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0).astype(np.float32)

    def look_up(self, candidate_signatures: np.ndarray) -> np.ndarray:
        """Returns the long-term interest of each candidate (Eq. 12).

        Args:
          candidate_signatures: [N, G] integers in 0..2 ** tau - 1.

        Returns:
          [N, d] float32: the mean over groups of the normalised bucket that the candidate falls in.

        Raises:
          ValueError: if the shape is another or a signature has no bucket.
        """
        signatures = np.asarray(candidate_signatures)
        groups = len(self.counts)
        if signatures.ndim != 2 or signatures.shape[1] != groups:
            raise ValueError(
                f"`candidate_signatures` must be of shape [N, {groups}]. Received: {list(signatures.shape)}"
            )
        check_signatures(signatures, self.num_buckets)
        rows = self.normalised().reshape(-1, self.dim)
        return one_hot(signatures, self.num_buckets) @ rows / np.float32(groups)

    def _add(self, rows: tuple[np.ndarray, np.ndarray], value: np.ndarray) -> None:
        exact = self.sums[rows].astype(np.float64) + on_grid(value)
        if self.rest is not None:
            exact += self.rest[rows]
        self.sums[rows], rest = rounded(exact)
        if self.rest is not None:
            self.rest[rows] = rest

    def _row(self, value: np.ndarray, signature: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        value, signature = np.asarray(value, np.float32), np.asarray(signature)
        groups = len(self.counts)
        if value.shape != (self.dim,) or signature.shape != (groups,):
            raise ValueError(
                f"`value` and `signature` must be of shapes [{self.dim}] and [{groups}]. Received: "
                f"{list(value.shape)} and {list(signature.shape)}"
            )
        check_signatures(signature, self.num_buckets)
        if not np.isfinite(value).all():
            raise ValueError("`value` must be finite. Received: NaN or infinity.")
        return value, (np.arange(groups), signature.astype(np.intp))


def rounded(exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds exact sums to float32; returns also what that left, of which float32 holds everything below 4,096."""
    sums = exact.astype(np.float32)
    return sums, (exact - sums).astype(np.float32)


def check_signatures(signatures: np.ndarray, num_buckets: int) -> None:
    """Raises ValueError if signatures are not integers in 0..num_buckets - 1."""
    if signatures.dtype.kind not in "iu":
        raise ValueError(f"signatures must be integers. Received: {signatures.dtype}")
    if signatures.size and not 0 <= signatures.min() <= signatures.max() < num_buckets:
        raise ValueError(
            f"signatures must be in 0..{num_buckets - 1}. Received: {signatures.min()} to {signatures.max()}"
        )
