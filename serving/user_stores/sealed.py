"""Values behind a checksum: JSON, and arrays before it."""

from __future__ import annotations

from typing import Any

import google_crc32c
import orjson

from serving.user_stores.user_keys import RecordError

_CHECKSUM_BYTES = 4


def sealed(values: dict[str, Any]) -> bytes:
    """Returns values as JSON behind their CRC-32C."""
    text = orjson.dumps(values)
    return google_crc32c.value(text).to_bytes(_CHECKSUM_BYTES, "little") + text


def unsealed(record: bytes | memoryview) -> dict[str, Any]:
    """The inverse of `sealed`. Raises `RecordError` if the checksum is wrong."""
    text = bytes(record[_CHECKSUM_BYTES:])
    if google_crc32c.value(text) != int.from_bytes(record[:_CHECKSUM_BYTES], "little"):
        raise RecordError("the checksum of a record is wrong")
    return orjson.loads(text)
