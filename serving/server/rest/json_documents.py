"""JSON as TF Serving reads it (RapidJSON with NaN and Inf): bytes to Python values, errors with its texts and offsets.

Numbers keep what they are: without a point or an exponent, and within 64 bits, they are `int` and exact; all others are
`float`, larger whole numbers too. Text after the first value is ignored. Bytes that are not UTF-8 are kept in strings
(as surrogate escapes). Two things are otherwise: of a key that stands twice in an object the last counts, and values
nested deeper than `MAX_DEPTH` are an error, where some versions of TF Serving overflow their stack.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

import orjson

MAX_DEPTH = 1024
"""Lists and objects inside one another; orjson has the same bound."""

EXACT_BYTES = 2**20
"""Broken documents up to this size are read again, slowly, for TF Serving's text and offset."""

_EMPTY = "The document is empty."
_INVALID = "Invalid value."
_NO_NAME = "Missing a name for object member."
_NO_COLON = "Missing a colon after a name of object member."
_OBJECT_COMMA = "Missing a comma or '}' after an object member."
_ARRAY_COMMA = "Missing a comma or ']' after an array element."
_HEX = "Incorrect hex digit after \\u escape in string."
_SURROGATE = "The surrogate pair in string is invalid."
_ESCAPE = "Invalid escape character in string."
_NO_QUOTE = "Missing a closing quotation mark in string."
_TOO_BIG = "Number too big to be stored in double."
_NO_FRACTION = "Miss fraction part in number."
_NO_EXPONENT = "Miss exponent in number."
_TOO_DEEP = f"Nested deeper than {MAX_DEPTH} levels."

# Its letters first, which are searched for faster than what stands before them.
_NAN = re.compile(rb"NaN(?<=[\[,:\s]NaN)(?=[\],}\s])")
_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_WHOLE = re.compile(rb"0|[1-9][0-9]*")
_HEX_DIGITS = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {b'"': b'"', b"/": b"/", b"\\": b"\\", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_LITERALS = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}


class JsonError(ValueError):
    """A document that is not JSON; the text is TF Serving's, the offset counts bytes."""


def read_json(body: bytes) -> Any:
    """Returns the first JSON value of `body`.

    Raises:
      JsonError: where there is none, with the text and the byte offset that TF Serving answers.
    """
    if not body:
        raise JsonError("JSON Parse error: The document is empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        offset = error.pos
    with contextlib.suppress(ValueError):
        return _read_with_nan(body)
    try:
        return _read_lenient(body)
    except (ValueError, RecursionError):
        if len(body) > EXACT_BYTES:
            raise JsonError(f"JSON Parse error: {_INVALID} at offset: {offset}") from None
        return _Reader(body).read()


def _read_with_nan(body: bytes) -> Any:
    """Reads a document that orjson would take but for its NaN, twenty times as fast as the standard library does.

    Missing numbers are NaN, so that most requests with them come here. NaN goes through orjson as null; if a NaN is not
    found again, it stood in a string, or the document is one of the odd ones that the other readers are for.
    """
    if b"null" in body:
        raise ValueError("which null was a NaN?")
    text, count = _NAN.subn(b"null", body)
    value = orjson.loads(text) if count else None
    if not count or _fill_nulls(value) != count:
        raise ValueError("read by the other readers")
    return value


def _fill_nulls(value: Any) -> int:
    """Puts NaN where null is, and returns how many there were; lists after a value that is none are not entered."""
    count, around = 0, [value]
    while around:
        each = around.pop()
        if type(each) is dict:
            places = [key for key, inner in each.items() if inner is None]
            around += each.values()
        elif type(each) is list and each and type(each[0]) in (list, dict):
            places = []
            around += each
        elif type(each) is list and None in each:
            places = [place for place, inner in enumerate(each) if inner is None]
        else:
            continue
        for place in places:
            each[place] = math.nan
        count += len(places)
    return count


def _read_lenient(body: bytes) -> Any:
    """Reads what orjson refuses and the standard library takes: NaN, Infinity, text after the value, other bytes."""
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\n\r")
    # Half surrogates, and the beginning of a number that has a fault, the library would take.
    if text[:1] not in ("{", "[") or "\\ud" in text or "\\uD" in text:
        raise ValueError("read by the exact reader")
    return _LENIENT.raw_decode(text)[0]


def _whole(digits: str) -> int | float:
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else _decimal(digits)


def _decimal(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(_TOO_BIG)
    return number


_LENIENT = json.JSONDecoder(parse_int=_whole, parse_float=_decimal)


class _Reader:
    """Reads one document without recursion, as RapidJSON's iterative reader does (reader.h, `IterativeParse`)."""

    def __init__(self, body: bytes) -> None:
        # A NUL ends the document.
        self._body = body.split(b"\0", 1)[0]
        self._at = 0

    def read(self) -> Any:
        """Returns the first value."""
        self._space()
        if self._peek() in (b"", b"]", b"}", b",", b":"):
            self._fail(_EMPTY)
        around: list[tuple[Any, Any]] = []  # The containers that are open, each with the key that its next value has.
        while True:
            value, opened = self._open_or_scalar()
            if opened:
                if len(around) >= MAX_DEPTH:
                    self._fail(_TOO_DEEP)
                around.append((value, self._key() if isinstance(value, dict) else None))
                continue
            while around:
                container, key = around.pop()
                if isinstance(container, dict):
                    container[key] = value
                else:
                    container.append(value)
                if self._more(container):
                    around.append((container, self._key() if isinstance(container, dict) else None))
                    break
                value = container
            else:
                return value

    def _open_or_scalar(self) -> tuple[Any, bool]:
        """Returns a value, and whether it is a container whose first member follows."""
        start = self._peek()
        if start not in (b"[", b"{"):
            return self._scalar(start), False
        self._at += 1
        self._space()
        container: Any = [] if start == b"[" else {}
        if self._take(b"]" if start == b"[" else b"}"):
            return container, False
        return container, True

    def _more(self, container: Any) -> bool:
        """Goes past a comma (True) or the end of the container (False)."""
        self._space()
        if self._take(b","):
            self._space()
            return True
        if not self._take(b"}" if isinstance(container, dict) else b"]"):
            self._fail(_OBJECT_COMMA if isinstance(container, dict) else _ARRAY_COMMA)
        return False

    def _key(self) -> str:
        if self._peek() != b'"':
            self._fail(_NO_NAME)
        key = self._string()
        self._space()
        if not self._take(b":"):
            self._fail(_NO_COLON)
        self._space()
        return key

    def _scalar(self, start: bytes) -> Any:
        if start == b'"':
            return self._string()
        if start in _LITERALS:
            word, value = _LITERALS[start]
            for letter in word:
                if not self._take(bytes([letter])):
                    self._fail(_INVALID)
            return value
        return self._number()

    def _string(self) -> str:
        self._at += 1
        parts = []
        while True:
            found = _PLAIN.match(self._body, self._at)
            parts.append(found.group())
            self._at = found.end()
            if self._take(b'"'):
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if self._peek() == b"\\":
                parts.append(self._escape())
            else:
                self._fail(_ESCAPE if self._peek() else _NO_QUOTE)

    def _escape(self) -> bytes:
        start = self._at
        self._at += 2
        letter = self._body[start + 1 : start + 2]
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != b"u":
            self._fail(_ESCAPE, start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDBFF:
            if not (self._take(b"\\") and self._take(b"u")):
                self._fail(_SURROGATE, start)
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail(_SURROGATE, start)
            code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        return chr(code).encode("utf-8", "surrogatepass")

    def _hex(self, start: int) -> int:
        found = _HEX_DIGITS.match(self._body, self._at)
        if not found:
            self._fail(_HEX, start)
        self._at = found.end()
        return int(found.group(), 16)

    def _number(self) -> int | float:
        start = self._at
        minus = self._take(b"-")
        if self._peek() in (b"N", b"I"):
            return self._not_finite(minus)
        found = _WHOLE.match(self._body, self._at)
        if not found:
            self._fail(_INVALID)
        self._at = found.end()
        decimal = False
        if self._take(b"."):
            self._some_digits(_NO_FRACTION)
            decimal = True
        if self._take(b"e") or self._take(b"E"):
            if not self._take(b"+"):
                self._take(b"-")
            self._some_digits(_NO_EXPONENT)
            decimal = True
        text = self._body[start : self._at].decode()
        try:
            return _decimal(text) if decimal else _whole(text)
        except ValueError:  # Infinite, or of more digits than Python turns into an int.
            self._fail(_TOO_BIG, start)

    def _some_digits(self, otherwise: str) -> None:
        found = _DIGITS.match(self._body, self._at)
        if not found.group():
            self._fail(otherwise)
        self._at = found.end()

    def _not_finite(self, minus: bool) -> float:
        word = b"NaN" if self._peek() == b"N" else b"Inf"
        for letter in word:
            if not self._take(bytes([letter])):
                self._fail(_INVALID)
        if word == b"NaN":
            return math.nan
        if self._peek() == b"i":
            for letter in b"inity":
                if not self._take(bytes([letter])):
                    self._fail(_INVALID)
        return -math.inf if minus else math.inf

    def _space(self) -> None:
        self._at = _SPACE.match(self._body, self._at).end()

    def _peek(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _take(self, expected: bytes) -> bool:
        if self._peek() == expected:
            self._at += 1
            return True
        return False

    def _fail(self, text: str, at: int | None = None) -> Any:
        raise JsonError(f"JSON Parse error: {text} at offset: {self._at if at is None else at}")
