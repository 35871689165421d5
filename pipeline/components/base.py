"""The base of drivers that work out an execution property before TFX asks its cache.

A path given to a component as a plain parameter is not looked behind: with other files behind the same path, the
cache would be hit. A driver runs first, on every orchestrator, and what it returns is part of the cache's key.
"""

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
