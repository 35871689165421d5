"""Executors of TFX in lanes: the main process drives and publishes every node, a lane only executes.

So ML Metadata is written by one process, and what a node that failed or was killed leaves is recorded by TFX's own
launcher. An execution travels as TFX sends it to an executor in a container
(`tfx.orchestration.python_execution_binary`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.run.by_node.launch import Launcher, Progress, Report
from pipeline.run.lanes.order import by_longest_rest
from pipeline.run.lanes.pool import LanePool
from pipeline.run.lanes.schedule import run_nodes

#: Takes a function of a module and its arguments, and runs it in a lane; returns what the function does.
Away = Callable[..., bytes]


def import_tfx(create: Callable[[Any], object], config) -> None:
    """Imports what executors need, in a lane: seconds that pass while the main process does the same.

    Args:
      create: makes the pipeline of a configuration, for which it imports all components.
      config: the configuration.
    """
    create(config)
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


def launch_in_lanes(
    launcher: Launcher, pool: LanePool, seconds: Mapping[str, float], report: Report, peaks: dict[str, float | None]
) -> None:
    """Runs all nodes of a run, executing them in lanes.

    Args:
      launcher: of the run.
      pool: the lanes.
      seconds: of components, as an earlier run measured them.
      report: called when a component starts and ends, and with what it prints; always in this thread.
      peaks: gets the largest memory of the process of each component that was executed, in MiB.

    Raises:
      NodeFailed: of the first node that failed.
    """

    def launch(node: str, post: Callable[[Callable[[], None]], None]) -> None:
        def told(progress: Progress) -> None:
            post(lambda: report(replace(progress, apart=True)))

        def away(function: Callable, *arguments) -> bytes:
            post(pool.grow)
            outcome = pool.run(
                function, *arguments, name=node, say=lambda text: told(Progress(node, "says", text=text))
            )
            peaks[node] = outcome.peak_mb
            return outcome.result

        launcher.launch(node, told, operators_for(away))

    run_nodes(launcher.upstream, by_longest_rest(launcher.upstream, seconds), pool.size, launch)
