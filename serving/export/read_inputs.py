"""Which inputs of a traced function its outputs depend on."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf


def read_inputs(function) -> set[tuple[str, ...]]:
    """Returns the paths, key by key, of what a function reads of its one argument, a nested dict of tensors.

    A tensor counts as read if an output depends on its values or on its shape; what goes into a function or a loop
    inside counts whole.

    Args:
      function: a concrete function.
    """
    ((argument,), _) = function.structured_input_signature
    paths = list(_paths(argument))
    reached = _operations_before(function.graph.outputs)
    return {path for path, tensor in zip(paths, function.inputs[: len(paths)], strict=True) if tensor.op in reached}


def _paths(argument, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each tensor, in the order in which functions take them."""
    for key in sorted(argument):
        value, path = argument[key], (*before, key)
        if isinstance(value, dict):
            yield from _paths(value, path)
        else:
            for _ in tf.nest.flatten(value, expand_composites=True):
                yield path


def _operations_before(outputs) -> set:
    waiting, found = [output.op for output in outputs], set()
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
            waiting += operation.control_inputs
    return found
