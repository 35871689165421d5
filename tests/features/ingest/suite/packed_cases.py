"""Packed files that end early, are damaged, or are not what their suffix says."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile

import pyarrow as pa

from tests.features.ingest.suite.case import (
    FIRST,
    GOOD,
    BadInput,
    as_json,
    good,
    lines,
    refused,
    row,
)

TWENTY = {"impressions": {"rows_in": GOOD}}
MANY = lines(*good(5_000))


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return stream.getvalue()


def damaged(data: bytes, at: float = 0.5) -> bytes:
    """Returns the bytes with eight of them turned over."""
    place = int(len(data) * at)
    return data[:place] + bytes(byte ^ 0xFF for byte in data[place : place + 8]) + data[place + 8 :]


PACK = {"gz": lambda data: gzip.compress(data, mtime=0), "bz2": bz2.compress, "zst": zst}


def every(name: str, make, *parts: str) -> tuple[BadInput, ...]:
    """The same fault in each packing."""
    return tuple(
        refused(f"{kind}_{name}", {**FIRST, f"impressions/b.csv.{kind}": make(pack)}, f"b.csv.{kind}", *parts)
        for kind, pack in PACK.items()
    )


def fine(name: str, kind: str, make) -> BadInput:
    data = lines(*good(), row(hour="x"))
    return BadInput(
        name,
        {f"impressions/b.csv.{kind}": make(data)},
        {"impressions": {"bad_value": [GOOD + 2]}},
        counts={"impressions": {"kept": GOOD}},
    )


PACKED = (
    *every("cut_off_at_60_percent", lambda pack: pack(MANY)[: len(pack(MANY)) * 6 // 10], "byte"),
    *every("cut_off_by_one_byte", lambda pack: pack(MANY)[:-1], "byte"),
    *every("cut_off_in_its_first_bytes", lambda pack: pack(MANY)[:6]),
    *every("damaged", lambda pack: damaged(pack(MANY))),
    *every("with_text_after_its_end", lambda pack: pack(MANY) + b"one more line\n"),
    *(
        BadInput(
            f"{kind}_padded_by_a_tape",
            {f"impressions/b.csv.{kind}": pack(lines(*good())) + bytes(512)},
            {},
            counts=TWENTY,
        )
        for kind, pack in PACK.items()
    ),
    *every("that_is_plain_text", lambda pack: MANY),
    *every("of_no_bytes", lambda pack: b""),
    *(
        BadInput(f"{kind}_of_nothing", {**FIRST, f"impressions/b.csv.{kind}": pack(b"")}, {}, counts=TWENTY)
        for kind, pack in PACK.items()
    ),
    *every("that_is_a_zip", lambda pack: zipped(MANY)),
    refused(
        "gz_with_a_wrong_checksum",
        {**FIRST, "impressions/b.csv.gz": damaged(PACK["gz"](MANY)[:-4]) + b"\0\0\0\0"},
        "b.csv.gz",
    ),
    refused(
        "gz_with_only_its_checksum_wrong",
        {**FIRST, "impressions/b.csv.gz": PACK["gz"](MANY)[:-8] + b"\1\2\3\4" + PACK["gz"](MANY)[-4:]},
        "b.csv.gz",
    ),
    refused("zst_named_gz", {**FIRST, "impressions/b.csv.gz": zst(MANY)}, "b.csv.gz"),
    refused("gz_named_csv", {**FIRST, "impressions/b.csv": PACK["gz"](MANY)}, "b.csv"),
    refused(
        "gz_named_jsonl",
        {**FIRST, "impressions/b.jsonl": PACK["gz"](lines(*map(as_json, good()), header=None))},
        "b.jsonl",
    ),
    refused("gz_inside_gz", {**FIRST, "impressions/b.csv.gz": PACK["gz"](PACK["gz"](MANY))}, "b.csv.gz"),
    fine("gz_of_two_members", "gz", lambda data: PACK["gz"](data[:300]) + PACK["gz"](data[300:])),
    fine("bz2_of_two_streams", "bz2", lambda data: bz2.compress(data[:300]) + bz2.compress(data[300:])),
    fine("zst_of_two_frames", "zst", lambda data: zst(data[:300]) + zst(data[300:])),
)
