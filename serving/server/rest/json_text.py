"""Texts of JSON values as RapidJSON writes them: for error messages (`debug_text`) and for strings in answers."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

DEBUG_BYTES = 256
"""Writing of a value into a message stops once this many bytes are there (TF Serving, since 2.18)."""

_ESCAPED = re.compile(rb'["\\\x00-\x1f]')
_SHORT = {0x22: b'\\"', 0x5C: b"\\\\", 8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r"}


class _Full(Exception):
    """The text has reached its bound, or holds a number that cannot be written."""


def type_name(value: Any) -> str:
    """Returns RapidJSON's name of a value's type: Null, False, True, Object, Array, String or Number."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    return {dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def quoted(text: bytes) -> bytes:
    """Returns a string as a JSON string; bytes from 0x20 on stand as they are, whether they are UTF-8 or not."""
    return b'"' + _ESCAPED.sub(_escape, text) + b'"'


def _escape(found: re.Match[bytes]) -> bytes:
    byte = found.group()[0]
    return _SHORT.get(byte, b"\\u%04X" % byte)


def debug_text(value: Any) -> str:
    """Returns a value as TF Serving names it in messages (json_tensor.cc, `JsonValueToDebugString`).

    Lists stand in one line, objects over several; the text is cut once it is `DEBUG_BYTES` long, or before a number
    that is not finite.
    """
    writer = _DebugWriter()
    with contextlib.suppress(_Full):
        writer.write(value, 0)
    return b"".join(writer.parts).decode("utf-8", "surrogateescape")


def number_text(number: int | float) -> str:
    """Returns a number as RapidJSON writes it: `1`, `1.0`, `1.5e-7`, `1e30`."""
    if isinstance(number, int):
        return str(number)
    if number == 0:
        return "-0.0" if math.copysign(1.0, number) < 0 else "0.0"
    mantissa, _, exponent = _shortest(abs(number)).partition("e")
    digits = mantissa.replace(".", "").rstrip("0") or "0"
    point = int(exponent) + 1  # 10 ** (point - 1) <= number < 10 ** point.
    sign = "-" if number < 0 else ""
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1}"


def _shortest(number: float) -> str:
    """Returns the fewest digits that read as the same number, in scientific form."""
    for digits in range(17):
        text = f"{number:.{digits}e}"
        if float(text) == number:
            return text
    return f"{number:.16e}"


class _DebugWriter:
    """Writes tokens, each with the separator before it, until the text is long enough."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0

    def write(self, value: Any, level: int, before: bytes = b"") -> None:
        """Writes a value that stands inside `level` others."""
        if isinstance(value, list):
            self._token(before + b"[")
            for index, each in enumerate(value):
                self.write(each, level + 1, b", " if index else b"")
            self._token(b"]")
        elif isinstance(value, dict):
            indent = b"\n" + b" " * (4 * (level + 1))
            self._token(before + b"{")
            for index, (key, each) in enumerate(value.items()):
                self._token((b"," if index else b"") + indent + quoted(key.encode("utf-8", "surrogateescape")))
                self.write(each, level + 1, b": ")
            self._token(indent[:-4] + b"}" if value else b"}")
        else:
            self._token(before + self._scalar(value))

    def _scalar(self, value: Any) -> bytes:
        if value is None or isinstance(value, bool):
            return {None: b"null", False: b"false", True: b"true"}[value]
        if isinstance(value, str):
            return quoted(value.encode("utf-8", "surrogateescape"))
        if isinstance(value, float) and not math.isfinite(value):
            raise _Full
        return number_text(value).encode()

    def _token(self, text: bytes) -> None:
        if self._size >= DEBUG_BYTES:
            raise _Full
        self.parts.append(text)
        self._size += len(text)
