"""Tiny SavedModels for tests of a server: every type, rank and signature of interest, in milliseconds each.

`save_toy_models(base)` writes `<base>/<model>/<version>/`:

- `half_plus_two`, versions 1 (`y = x / 2 + 2`) and 2 (`y = x / 2 + 3`): `serving_default` maps `x [?]` to `y [?]`;
  the others take serialized `tf.Example`s for Regress and Classify, some of them of a shape that those refuse;
- `kinds`, version 1: a signature for every type, named as the type, and those of `_shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Signatures of `kinds` that answer their input `x`, of any shape, as `y`, with TensorFlow's names of their types.
IDENTITIES: Mapping[str, str] = {
    "float": "float32",
    "double": "float64",
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
    "string": "string",
    "half": "float16",
    "bfloat16": "bfloat16",
    "complex64": "complex64",
}


def save_toy_models(base: Path) -> dict[str, Path]:
    """Saves every toy model below `base`.

    Returns:
      The base path of each model by its name.
    """
    save_half_plus(base / "half_plus_two" / "1", 2.0)
    save_half_plus(base / "half_plus_two" / "2", 3.0)
    save_kinds(base / "kinds" / "1")
    return {name: base / name for name in ("half_plus_two", "kinds")}


def save_half_plus(folder: Path, constant: float) -> None:
    """Saves `y = x / 2 + constant` with signatures for Predict, Classify and Regress at `folder`."""
    import tensorflow as tf

    module = tf.Module()
    module.half = tf.Variable(0.5)
    module.constant = tf.Variable(constant)

    def over_examples(answer: Callable[[Any], dict[str, Any]]) -> Any:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def signature(inputs: Any) -> dict[str, Any]:
            parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])})
            return answer(parsed["x"] * module.half + module.constant)

        return signature

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: Any) -> dict[str, Any]:
        return {"y": x * module.half + module.constant}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def other_input(examples: Any) -> dict[str, Any]:
        return {"outputs": tf.zeros([tf.size(examples)])}

    def labelled(y: Any) -> dict[str, Any]:
        labels = tf.tile(tf.constant([["no", "yes"]]), [tf.shape(y)[0], 1])
        return {"classes": labels, "scores": tf.concat([1.0 - y, y], axis=1)}

    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": predict,
            "regress_x_to_y": over_examples(lambda y: {"outputs": y}),
            "regress_flat": over_examples(lambda y: {"outputs": tf.squeeze(y, 1)}),
            "regress_cube": over_examples(lambda y: {"outputs": tf.expand_dims(y, 2)}),
            "classify_x_to_y": over_examples(lambda y: {"scores": y}),
            "classify_labelled": over_examples(labelled),
            "classify_flat": over_examples(lambda y: {"scores": tf.squeeze(y, 1)}),
            "three_outputs": over_examples(lambda y: {"scores": y, "outputs": y + 1.0, "more": y + 2.0}),
            "other_input": other_input,
        },
    )


def save_kinds(folder: Path) -> None:
    """Saves a model with a signature for every type and for shapes that servers treat apart, at `folder`."""
    import tensorflow as tf

    module = tf.Module()

    def identity(dtype: Any) -> Any:
        @tf.function(input_signature=[tf.TensorSpec(None, dtype, name="x")])
        def signature(x: Any) -> dict[str, Any]:
            return {"y": tf.identity(x)}

        return signature

    signatures = {name: identity(tf.as_dtype(dtype)) for name, dtype in IDENTITIES.items()}
    tf.saved_model.save(module, str(folder), signatures={**signatures, **_shapes()})


def _shapes() -> dict[str, Any]:
    """Returns the signatures of `kinds` whose point is a shape, a number of tensors or a name."""
    import tensorflow as tf

    def function(*specs: tuple[str, Any, Any]) -> Any:
        return tf.function(input_signature=[tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in specs])

    @function(("a", [None], tf.float32), ("b", [None], tf.float32))
    def add(a: Any, b: Any) -> dict[str, Any]:
        return {"sum": a + b}

    @function(("id", [None], tf.int64), ("x", [None, 3], tf.float32))
    def rows(id: Any, x: Any) -> dict[str, Any]:
        return {"score": tf.reduce_sum(x, axis=1) + tf.cast(id, tf.float32), "twice": id * 2}

    @function(("user", [None], tf.float32), ("items", [None, None], tf.float32))
    def ranks(user: Any, items: Any) -> dict[str, Any]:
        return {"score": tf.reduce_sum(items, axis=1) + tf.reduce_sum(user), "users": user}

    @function(("x", None, tf.float32))
    def scalar(x: Any) -> dict[str, Any]:
        return {"total": tf.reduce_sum(x)}

    @function(("x", None, tf.float32))
    def scalar_beside_rows(x: Any) -> dict[str, Any]:
        return {"total": tf.reduce_sum(x), "y": tf.identity(x)}

    @function(("x", [None], tf.float32))
    def flag_beside_rows(x: Any) -> dict[str, Any]:
        return {"flag": tf.constant([True]), "y": tf.identity(x)}

    @function(("text", [None], tf.string))
    def as_bytes(text: Any) -> dict[str, Any]:
        return {"raw_bytes": tf.identity(text), "text": tf.identity(text)}

    @function(("text", [None], tf.string))
    def only_bytes(text: Any) -> dict[str, Any]:
        return {"raw_bytes": tf.identity(text)}

    @function(("n", [], tf.int64))
    def spin(n: Any) -> dict[str, Any]:
        start = (tf.constant(0, tf.int64), tf.constant(0.0))
        _, value = tf.while_loop(lambda i, _: i < n, lambda i, v: (i + 1, tf.sin(v + 1.0)), start)
        return {"value": value}

    @function(("n", [None], tf.int64))
    def spin_rows(n: Any) -> dict[str, Any]:
        start = (tf.constant(0, tf.int64), tf.zeros([tf.size(n)]))
        _, value = tf.while_loop(lambda i, _: i < n[0], lambda i, v: (i + 1, tf.sin(v + 1.0)), start)
        return {"value": value}

    @function()
    def no_inputs() -> dict[str, Any]:
        return {"one": tf.constant([1.0])}

    named = {"add": add, "rows": rows, "ranks": ranks, "scalar": scalar, "scalar_beside_rows": scalar_beside_rows}
    named["flag_beside_rows"] = flag_beside_rows
    return {
        **named,
        "as_bytes": as_bytes,
        "only_bytes": only_bytes,
        "spin": spin,
        "spin_rows": spin_rows,
        "no_inputs": no_inputs,
    }
