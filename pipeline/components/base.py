"""What components share: a driver that adds to the cache's key, and the properties that examples inherit.

A path given to a component as a plain parameter is not looked behind: with other files behind the same path, the
cache would be hit. A driver runs first, on every orchestrator, and what it returns is part of the cache's key.
"""

from tfx import types
from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.proto.orchestration import driver_output_pb2


class PropertyDriver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Adds what `resolve` returns to the execution properties."""

    def resolve(self, execution_info) -> dict[str, str]:
        """Returns execution properties by name. Reads what the pipeline's parameters and inputs point to."""
        raise NotImplementedError

    def run(self, execution_info) -> driver_output_pb2.DriverOutput:
        result = driver_output_pb2.DriverOutput()
        for name, value in {**execution_info.exec_properties, **self.resolve(execution_info)}.items():
            if value is not None:
                data_types_utils.set_metadata_value(result.exec_properties[name], value)
        return result


def inherit_properties(examples: types.Artifact, source: types.Artifact, **counts: int) -> None:
    """Gives examples the splits, the span and the format of those that they were made from, and `counts` to read."""
    examples.split_names, examples.span = source.split_names, source.span
    for name in ("file_format", "payload_format"):
        examples.set_string_custom_property(name, source.get_string_custom_property(name))
    for name, number in counts.items():
        examples.set_int_custom_property(name, number)
