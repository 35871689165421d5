"""What a value of a log means, by the words of docs/reference/log_contract.md: one value at a time, in plain Python."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import zoneinfo
from typing import Any

MIN_TIMESTAMP, MAX_TIMESTAMP = 100_000_000_000, 4_102_444_800_000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
_DIGITS = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_TRUTHS = {"true": 1, "false": 0}


class Misfit(ValueError):
    """A value that is not of its column's type."""


def missing(value: Any) -> bool:
    """Whether a value is null, or a number that is none."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_text(value: Any) -> str | None:
    if missing(value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Misfit(value) from None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and abs(value) < 2**53:
        return str(int(value)) if value.is_integer() else repr(value)
    raise Misfit(value)


def as_integer(value: Any) -> int | None:
    if missing(value):
        return None
    if isinstance(value, bytes):
        value = as_text(value)
    if isinstance(value, str):
        if value == "" or value.lower() == "nan":
            return None
        if value.lower() in _TRUTHS:
            return _TRUTHS[value.lower()]
        if _DIGITS.fullmatch(value):
            value = int(value)
        elif _NUMBER.fullmatch(value):
            value = float(value)
        else:
            raise Misfit(value)
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float):
        if not value.is_integer() or abs(value) >= 2**53:
            raise Misfit(value)
        return int(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    raise Misfit(value)


def as_float(value: Any) -> float | None:
    if missing(value):
        return None
    if isinstance(value, bytes):
        value = as_text(value)
    if isinstance(value, str):
        if value == "" or value.lower() == "nan":
            return None
        if value.lower() in _TRUTHS:
            return float(_TRUTHS[value.lower()])
        if not (_NUMBER.fullmatch(value) or _INFINITE.fullmatch(value)):
            raise Misfit(value)
        return float(value)
    if isinstance(value, int | float | decimal.Decimal):
        return float(value)
    raise Misfit(value)


SCALARS = {"string": as_text, "int64": as_integer, "float64": as_float}


def as_list(value: Any, dtype: str) -> list | None:
    """Returns the values of a multi-valued feature; where there is no list, a text is separated by `|`."""
    if missing(value):
        return None
    if isinstance(value, str):
        value = value.split("|")
    elif not isinstance(value, list):
        value = [value]
    return [SCALARS[dtype](each) for each in value]


def as_milliseconds(value: Any, unit: str, timezone: str | None) -> int | None:
    """Returns UTC milliseconds. Raises `Misfit` for what is no instant; None: missing."""
    if missing(value):
        return None
    if isinstance(value, bytes):
        value = as_text(value)
    if isinstance(value, datetime.datetime):
        return _since_epoch(value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc))
    if isinstance(value, datetime.date):
        return _since_epoch(datetime.datetime.combine(value, datetime.time(), datetime.timezone.utc))
    if isinstance(value, str) and not _NUMBER.fullmatch(value) and value.lower() not in ("", "nan"):
        return _from_iso(value, timezone)
    number = as_integer(value)
    times, over = UNITS[unit]
    return None if number is None else number * times // over


def _from_iso(text: str, timezone: str | None) -> int:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = datetime.date.fromisoformat(text)
            return _since_epoch(datetime.datetime.combine(day, datetime.time(), datetime.timezone.utc))
        when = datetime.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        raise Misfit(text) from None
    if when.tzinfo is None:
        if timezone is None:
            raise Misfit(text)
        when = when.replace(tzinfo=zoneinfo.ZoneInfo(timezone))
    return _since_epoch(when)


def _since_epoch(when: datetime.datetime) -> int:
    return (when - EPOCH) // datetime.timedelta(milliseconds=1)


def hash64(text: str) -> int:
    """The stable hash of a string, by its formula in features/encoding/hashing.py, in integers without bounds."""
    data = text.encode()
    total = (len(data) + 1) * 0x9E3779B97F4A7C15
    for i, byte in enumerate(data):
        total += byte * pow(0x9FB21C651E98DF25, i, 1 << 64)
    return mix(total % (1 << 64))


def mix(value: int) -> int:
    """The finaliser of SplitMix64."""
    bound = (1 << 64) - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & bound
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & bound
    return value ^ (value >> 31)


def uniform(request_id: str, seed: int) -> float:
    """The number in [0, 1) that says the split of a request, with `by: random`."""
    stirred = hash64(request_id) ^ ((seed * 0x9E3779B97F4A7C15) % (1 << 64))
    return (mix((stirred + 0x9E3779B97F4A7C15) % (1 << 64)) >> 11) * 2.0**-53
