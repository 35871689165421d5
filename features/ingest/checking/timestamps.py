"""Timestamps of a log as UTC milliseconds: numbers of a unit, Arrow's dates and times, ISO 8601."""

from __future__ import annotations

import datetime
import zoneinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import null_where, to_numpy
from features.ingest.checking.columns import convert, mask_of, none_bad, plain

#: Milliseconds of a unit, as a fraction.
UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO = rf"^{_DATE}([T ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.,][0-9]{{1,9}})?)?)?"
_ZONE = r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$"
_NO_ZONE = r"$"

#: Zones change their offset at full quarters of an hour.
_QUARTER = 15 * 60 * 1000


def to_milliseconds(
    values: pa.Array, unit: str = "ms", timezone: str | None = None
) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Converts timestamps.

    Args:
      values: [N] of any type.
      unit: of numbers; see `UNITS`.
      timezone: of texts without a zone; None: they do not fit.

    Returns:
      [N] int64 UTC milliseconds, null where a value was null or did not fit; [N] bool: did not fit; [N] bool: only for
      want of a zone.
    """
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.int64()), none_bad(len(values)), none_bad(len(values))
    values, broken = plain(values)
    no_zone = none_bad(len(values))
    if pa.types.is_timestamp(values.type):
        # Going through the zone-less type keeps the instant: Arrow stores zoned timestamps in UTC.
        values = values.cast(pa.timestamp(values.type.unit)).cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
        return values, broken, no_zone
    if pa.types.is_date(values.type):
        return values.cast(pa.timestamp("ms")).cast(pa.int64()), broken, no_zone
    if pa.types.is_string(values.type):
        dated = mask_of(pc.match_substring_regex(values, _ISO))
        if dated.any():
            texts, misfit, no_zone = _from_iso(null_where(values, ~dated), timezone)
            numbers, bad = _from_numbers(null_where(values, dated), unit)
            return pc.coalesce(texts, numbers), misfit | bad | broken, no_zone
    numbers, bad = _from_numbers(values, unit)
    return numbers, bad | broken, no_zone


def _from_numbers(values: pa.Array, unit: str) -> tuple[pa.Array, np.ndarray]:
    times, over = UNITS[unit]
    if times > 1 and (pa.types.is_floating(values.type) or pa.types.is_string(values.type)):
        # Seconds may have a fraction.
        numbers, bad = convert(values, "float64")
        scaled = np.round(to_numpy(numbers) * times)
        return convert(pa.array(scaled, from_pandas=True), "int64")[0], bad
    array, bad = convert(values, "int64")
    if (times, over) == (1, 1):
        return array, bad
    whole = to_numpy(array.fill_null(0))
    far = np.abs(whole) > 2**62 // times
    scaled = np.where(far, 0, whole) * times // over
    return pa.array(scaled, mask=~mask_of(array.is_valid()) | far), bad | far


def _from_iso(texts: pa.Array, timezone: str | None) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    given = mask_of(texts.is_valid())
    texts = pc.replace_substring_regex(texts, r"[.,]([0-9]{1,3})[0-9]*", r".\1")
    zoned = mask_of(pc.match_substring_regex(texts, _ISO + _ZONE)) & given
    date = mask_of(pc.match_substring_regex(texts, f"^{_DATE}$")) & given
    naive = mask_of(pc.match_substring_regex(texts, _ISO + _NO_ZONE)) & given & ~date
    array, bad = _parse(null_where(texts, ~zoned), pa.timestamp("ms", "UTC"))
    local, bad_local = _parse(null_where(texts, ~(naive | date)), pa.timestamp("ms"))
    array, bad = pc.coalesce(array, local), bad | bad_local | (given & ~(zoned | naive | date))
    if timezone is None:
        return null_where(array, naive), bad | naive, naive & ~bad_local
    shift = _utc_offsets(to_numpy(array.fill_null(0)), timezone)
    array = pc.subtract(array, pa.array(np.where(naive, shift, 0)))
    return array, bad, none_bad(len(texts))


def _parse(texts: pa.Array, kind: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    """Texts of the right form to int64 milliseconds; a day that does not exist makes the batch go value by value."""
    try:
        return texts.cast(kind).cast(pa.timestamp("ms")).cast(pa.int64()), none_bad(len(texts))
    except pa.ArrowInvalid:
        found = [_parse_one(text) for text in texts.to_pylist()]
        array = pa.array(found, pa.int64())
        return array, mask_of(pc.and_(texts.is_valid(), array.is_null()))


def _parse_one(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.replace("Z", "+00:00").replace("z", "+00:00")
    if len(text) > len("2026-11-25") and text[-3] in "+-":  # An offset in hours alone.
        text += ":00"
    for form in ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"):
        for wanted in (form, form.removesuffix("%z")):
            try:
                instant = datetime.datetime.strptime(text.replace(" ", "T"), wanted)
            except ValueError:
                continue
            return round(instant.replace(tzinfo=instant.tzinfo or datetime.timezone.utc).timestamp() * 1000)
    try:
        day = datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        return None
    return round(day.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)


def _utc_offsets(local: np.ndarray, timezone: str) -> np.ndarray:
    """Returns by how many milliseconds local times are ahead of UTC: [N] int64; the earlier of two of the same name.

    By Python's zones, one look-up a quarter of an hour: Arrow's needs files that slim machines lack.
    """
    zone = zoneinfo.ZoneInfo(timezone)
    quarters, place = np.unique(local // _QUARTER, return_inverse=True)
    offsets = []
    for quarter in quarters:
        instant = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=int(quarter) * _QUARTER)
        offset = instant.replace(tzinfo=zone).utcoffset()
        assert offset is not None  # A zone of the data base always has one.
        offsets.append(round(offset.total_seconds() * 1000))
    return np.array(offsets, np.int64)[place] if offsets else np.zeros(len(local), np.int64)
