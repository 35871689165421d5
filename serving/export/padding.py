"""Padded tensors of several requests to what models take: flat candidates, and windows that end with the newest."""

from __future__ import annotations

import tensorflow as tf

from features.spec import MISSING_INT64

#: The logit of what is no candidate: below all others, and its sigmoid is 0.
NO_LOGIT = tf.float32.min


class Slates:
    """Where the candidates of R requests stand in `[R, N]`: the first `num_candidates` of each row.

    What stands behind them is never looked at. Where no request has a candidate, the flat form has one all of whose
    values are missing, since few models are made for none; its answer is dropped.

    Args:
      num_candidates: [R] int32; more than N counts as N, less than 0 as 0.
      width: N, scalar int32.

    Attributes:
      request_index: [M] int32, the request of each flat candidate.
    """

    def __init__(self, num_candidates: tf.Tensor, width: tf.Tensor):
        self._shape = tf.stack([tf.size(num_candidates), width])
        places = tf.where(tf.range(width) < num_candidates[:, tf.newaxis])
        self._places = tf.cast(places, tf.int32)
        self._real = tf.shape(self._places)[0]
        self._added = tf.cast(self._real == 0, tf.int32)
        self.request_index = self._with_one(self._places[:, 0])

    def to_flat(self, values: tf.Tensor) -> tf.Tensor:
        """`[R, N, …]` to `[M, …]`."""
        return self._with_one(tf.gather_nd(values, self._places))

    def to_grid(self, flat: tf.Tensor, padding) -> tf.Tensor:
        """`[M, …]` to `[R, N, …]`, with `padding` where there is no candidate."""
        real = flat[: self._real]
        grid = tf.fill(tf.concat([self._shape, tf.shape(real)[1:]], axis=0), tf.cast(padding, real.dtype))
        grid = tf.tensor_scatter_nd_update(grid, self._places, real)
        return tf.ensure_shape(grid, [None, None, *flat.shape[1:]])

    def _with_one(self, flat: tf.Tensor) -> tf.Tensor:
        return pad(flat, self._added)


class NewestLast:
    """Moves the behaviours of windows `[R, S, …]` from the first places to the last ones, where models look for them.

    Args:
      length: [R] int32, how many behaviours there are; at most S of them count.
      width: S, scalar int32; a window becomes at least one place wide.

    Attributes:
      length: [R] int32, none above S.
    """

    def __init__(self, length: tf.Tensor, width: tf.Tensor):
        self.length = tf.clip_by_value(length, 0, width)
        wide = tf.maximum(width, 1)
        places = tf.range(wide) - (wide - self.length[:, tf.newaxis])
        self._places = tf.where(places < 0, width, places)

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Returns `[R, max(S, 1), …]`, with missing values before the behaviours."""
        # The place that is added holds no behaviour: it is what stands before them.
        return tf.gather(pad(values, tf.constant(1), axis=1), self._places, batch_dims=1)


def pad(values: tf.Tensor, count: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Appends `count` places of missing values, 0 where a number has no mark, on an axis."""
    marks = {tf.string: "", tf.int64: MISSING_INT64, tf.float64: float("nan")}
    mark = tf.constant(marks.get(values.dtype, 0), values.dtype)
    shape = tf.shape(values)
    shape = tf.concat([shape[:axis], count[tf.newaxis], shape[axis + 1 :]], axis=0)
    return tf.concat([values, tf.fill(shape, mark)], axis=axis)
