"""Executors of TFX in lanes: the main process drives and publishes every node, a lane only executes.

So ML Metadata is written by one process, and what a node that failed or was killed leaves is recorded by TFX's own
launcher. An execution travels as TFX sends it to an executor in a container
(`tfx.orchestration.python_execution_binary`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Takes a function of a module and its arguments, and runs it in a lane; returns what the function does.
Away = Callable[..., bytes]


def import_tfx() -> None:
    """Imports what executors of all components need: seconds that pass while the main process does the same."""
    # isort: off
    import pipeline.components  # noqa: F401  (first: it chooses the Keras)
    import tensorflow  # noqa: F401
    from tfx.orchestration.portable import beam_executor_operator  # noqa: F401


def operators_for(away: Away) -> dict[type, Any]:
    """Returns TFX's executor operators by specification, for `Launcher(custom_executor_operators=…)`.

    Args:
      away: how a function is run in a lane.
    """
    from tfx.orchestration.portable.base_executor_operator import BaseExecutorOperator
    from tfx.proto.orchestration.executable_spec_pb2 import BeamExecutableSpec, PythonClassExecutableSpec
    from tfx.proto.orchestration.execution_result_pb2 import ExecutorOutput

    class LaneOperator(BaseExecutorOperator):
        """Runs executors of Python and of Beam in a lane."""

        SUPPORTED_EXECUTOR_SPEC_TYPE = [BeamExecutableSpec, PythonClassExecutableSpec]
        SUPPORTED_PLATFORM_CONFIG_TYPE = []

        def run_executor(self, execution_info) -> ExecutorOutput:
            spec = self._executor_spec
            parts = isinstance(spec, BeamExecutableSpec), spec.SerializeToString()
            return ExecutorOutput.FromString(away(execute, *parts, execution_info.to_proto().SerializeToString()))

    return dict.fromkeys(LaneOperator.SUPPORTED_EXECUTOR_SPEC_TYPE, LaneOperator)


def execute(beam: bool, spec: bytes, invocation: bytes) -> bytes:
    """Runs an executor, in a lane.

    Args:
      beam: whether it is a `BeamExecutableSpec`, else it is a `PythonClassExecutableSpec`.
      spec: which executor.
      invocation: an `ExecutionInvocation`: inputs, outputs, properties.

    Returns:
      An `ExecutorOutput`.
    """
    from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
    from tfx.orchestration.portable.data_types import ExecutionInfo
    from tfx.orchestration.portable.python_executor_operator import PythonExecutorOperator
    from tfx.proto.orchestration.executable_spec_pb2 import BeamExecutableSpec, PythonClassExecutableSpec
    from tfx.proto.orchestration.execution_invocation_pb2 import ExecutionInvocation

    kinds = (BeamExecutableSpec, BeamExecutorOperator) if beam else (PythonClassExecutableSpec, PythonExecutorOperator)
    # The operator imports the executor, and with it the classes of the artifacts that the invocation names.
    operator = kinds[1](kinds[0].FromString(spec))
    info = ExecutionInfo.from_proto(ExecutionInvocation.FromString(invocation))
    return operator.run_executor(info).SerializeToString()
