"""ImportSchemaGen that notices an edited schema file."""

import hashlib

from tfx.components.schema_gen.import_schema_gen import component

from features import storage
from pipeline.components.base import PropertyDriver


class SchemaFileDriver(PropertyDriver):
    """Adds a digest of the schema file's contents to the cache's key."""

    def resolve(self, execution_info) -> dict[str, str]:
        contents = storage.read_bytes(execution_info.exec_properties["schema_file"])
        return {"schema_fingerprint": hashlib.sha256(contents).hexdigest()}


class ImportSchemaGen(component.ImportSchemaGen):
    """TFX's ImportSchemaGen; with the standard one an edited file behind the same path would hit the cache."""

    DRIVER_CLASS = SchemaFileDriver
