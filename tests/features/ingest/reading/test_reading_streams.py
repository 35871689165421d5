"""Packed and encoded text: read to its true end, or refused by file and byte."""

from __future__ import annotations

import bz2
import gzip
import random

import pytest
import zstandard

from features.ingest.reading import streams
from features.log_contract import LogContractError

PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
TEXT = "".join(f"{random.Random(i).random()}\n" for i in range(20_000)).encode()


def read(path, encoding="utf-8"):
    return b"".join(streams.read_text(str(path), streams.packing_of(str(path)), encoding))


@pytest.mark.parametrize("packing", PACK)
def test_what_was_packed_comes_back(tmp_path, packing):
    pack, path = PACK[packing], tmp_path / f"x.csv.{packing}"
    half = len(TEXT) // 2
    for content, text in (
        (pack(TEXT), TEXT),
        (pack(TEXT[:half]) + pack(TEXT[half:]), TEXT),  # Streams may follow one another.
        (pack(b""), b""),
        (pack(b"") + pack(b"a\n"), b"a\n"),
        (pack(b"\0" * (5 << 20)), b"\0" * (5 << 20)),
        (b"".join(pack(bytes([i])) for i in range(256)), bytes(range(256))),
    ):
        path.write_bytes(content)
        assert read(path) == text
    path.write_bytes(pack(b"\0" * (5 << 20)))
    if packing != "zst":
        assert max(map(len, streams.read_text(str(path), streams.packing_of(str(path))))) <= streams.CHUNK_BYTES


@pytest.mark.parametrize("packing", PACK)
def test_a_stream_that_ends_early_is_named_with_its_byte(tmp_path, packing):
    whole, path = PACK[packing](TEXT), tmp_path / f"x.csv.{packing}"
    for length in (1, 3, 4, 12, len(whole) // 2, len(whole) - 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LogContractError, match=rf"x.csv.{packing}: ends at byte {length}, in the middle of its"):
            read(path)
    path.write_bytes(whole + whole[:-9])
    with pytest.raises(LogContractError, match=f"ends at byte {2 * len(whole) - 9}, in the middle"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(LogContractError, match=f"x.csv.{packing}: is empty"):
        read(path)


@pytest.mark.parametrize("packing", PACK)
def test_damage_is_named(tmp_path, packing):
    whole, path = bytearray(PACK[packing](TEXT)), tmp_path / f"x.csv.{packing}"
    checksum = {"gz": -8, "bz2": -5, "zst": -1}[packing]
    for place in (checksum, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(LogContractError, match=f"x.csv.{packing}: (is damaged: .* at byte|ends at byte)"):
            read(path)


@pytest.mark.parametrize("packing", PACK)
def test_what_stands_after_the_end_is_an_error(tmp_path, packing):
    whole, path = PACK[packing](TEXT), tmp_path / f"x.csv.{packing}"
    path.write_bytes(whole + b"more rows\n")
    with pytest.raises(
        LogContractError, match=f"goes on after the end of its .* at byte {len(whole)}, with b'more rows"
    ):
        read(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(LogContractError, match=f"x.csv.{packing}: is no .* text that is not packed"):
        read(path)


def test_gzip_may_be_padded_with_zeros(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(TEXT) + b"\0" * 200_000)
    assert read(path) == TEXT
    path.write_bytes(gzip.compress(TEXT) + b"\0" * 70_000 + gzip.compress(b"a\n"))
    assert read(path) == TEXT + b"a\n"
    path.write_bytes(gzip.compress(TEXT) + b"\0" * 70_000 + b"x")
    with pytest.raises(LogContractError, match="goes on after the end"):
        read(path)


def test_zstandard_may_hold_frames_to_skip(tmp_path):
    path, skipped = tmp_path / "x.csv.zst", b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    path.write_bytes(skipped + PACK["zst"](TEXT) + skipped + PACK["zst"](b"a\n"))
    assert read(path) == TEXT + b"a\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "iso-8859-1", "cp1252", "shift_jis", "gb18030"])
def test_encodings_become_utf8(tmp_path, monkeypatch, encoding):
    text = "a,b\n" + ("日本\n" if encoding not in ("iso-8859-1", "cp1252") else "é\n") * 1000
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    monkeypatch.setattr(streams, "CHUNK_BYTES", 7)
    assert read(tmp_path / "x.csv", encoding) == text.encode()


def test_byte_order_marks_are_dropped(tmp_path, monkeypatch):
    for size in (1, 2, 1 << 20):
        monkeypatch.setattr(streams, "CHUNK_BYTES", size)
        for content, text in (
            (b"\xef\xbb\xbfa\n", b"a\n"),
            (b"a\xef\xbb\xbf", b"a\xef\xbb\xbf"),
            (b"\xef\xbb\xbf", b""),
        ):
            (tmp_path / "x.csv").write_bytes(content)
            assert read(tmp_path / "x.csv") == text
            assert read(tmp_path / "x.csv", "utf-8-sig") == text


def test_bytes_that_are_not_of_the_encoding_are_no_utf8_afterwards(tmp_path):
    content = "a\nb".encode("utf-16-le") + b"\x00\xd8" + "\nc\n".encode("utf-16-le")
    (tmp_path / "x.csv").write_bytes(content)
    lines = read(tmp_path / "x.csv", "utf-16-le").split(b"\n")
    assert lines[0] == b"a" and lines[2] == b"c"
    with pytest.raises(UnicodeDecodeError):
        lines[1].decode("utf-8")
