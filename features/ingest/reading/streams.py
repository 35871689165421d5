"""Text files as chunks of UTF-8: unpacked with every check that the format has, and out of their encoding."""

from __future__ import annotations

import bz2
import codecs
import zlib
from collections.abc import Iterator
from typing import IO, Any

from features import storage
from features.log_contract import LogContractError

CHUNK_BYTES = 1 << 20
_PACKED_BYTES = 1 << 16

#: What the names of packed files end with.
PACKINGS = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstandard"}

_MAGIC = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "zstandard": b"\x28\xb5\x2f\xfd"}
_SKIPPABLE = tuple(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))  # Frames of zstandard that hold no data.

#: Encodings whose line ends are the byte of ASCII, and which need no look at what stands before: files may be cut.
_CUTTABLE = ("utf-8", "ascii", "iso8859-1", "cp1252")

#: Stands for bytes that are not of the encoding: it is no UTF-8 itself, so that its record is found.
_NO_CHARACTER = "\udcff"


def packing_of(path: str) -> str | None:
    """Returns how a file is packed, by the end of its name; None: it is not."""
    return next((packing for suffix, packing in PACKINGS.items() if path.lower().endswith(suffix)), None)


def can_be_cut(encoding: str) -> bool:
    """Whether text of an encoding can be read from any line end on."""
    return codecs.lookup(encoding).name in _CUTTABLE


def read_text(
    path: str, packing: str | None, encoding: str = "utf-8", start: int = 0, stop: int | None = None
) -> Iterator[bytes]:
    """Reads a text file as UTF-8, without its byte order mark.

    Args:
      path: of the file.
      packing: of `PACKINGS`, or None.
      encoding: of the text; bytes that are not of it become bytes that are no UTF-8.
      start: first byte to read, of a file that is not packed.
      stop: the byte after the last one; None: to the end.

    Yields:
      Chunks of about `CHUNK_BYTES`, never empty.

    Raises:
      LogContractError: if the packed file is damaged, ends early or goes on after its end; it names the byte.
    """
    chunks = _read_plain(path, start, stop) if packing is None else _unpack(path, packing)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield from _without_mark(chunks) if start == 0 else chunks
    else:
        try:
            yield from _transcode(chunks, encoding)
        except UnicodeError as error:  # Of the text as a whole: bytes that are no characters are told by record.
            raise LogContractError(f"{path}: is not in the table's `encoding` ({encoding}): {error}.") from error


def _read_plain(path: str, start: int, stop: int | None) -> Iterator[bytes]:
    with storage.open_read(path) as file:
        file.seek(start)
        left = stop - start if stop is not None else None
        while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
            left = None if left is None else left - len(chunk)
            yield chunk


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(codecs.BOM_UTF8):
            break
    head = head.removeprefix(codecs.BOM_UTF8)
    if head:
        yield head
    yield from chunks


def _transcode(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    codecs.register_error("clickmill-no-character", _no_character)
    decoder = codecs.getincrementaldecoder(encoding)("clickmill-no-character")
    first = True
    for chunk in chunks:
        text = decoder.decode(chunk)
        if first and text:
            first, text = False, text.removeprefix("\ufeff")
        if text:
            yield text.encode("utf-8", "surrogatepass")
    if text := decoder.decode(b"", True):
        yield text.encode("utf-8", "surrogatepass")


def _no_character(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _NO_CHARACTER, error.end


def _unpack(path: str, packing: str) -> Iterator[bytes]:
    with storage.open_read(path) as file:
        start = file.read(4)
        if not start:
            raise LogContractError(f"{path}: is empty, which no {packing} file is: it was not written to its end.")
        magic = _MAGIC[packing]
        skippable = packing == "zstandard" and start in _SKIPPABLE
        if not start.startswith(magic[: len(start)]) and not skippable:
            raise LogContractError(
                f"{path}: is no {packing} file, as its name says, but begins with {start!r}: "
                f"{what_begins_so(start)}. Rename it, or pack it."
            )
        yield from _Unpacker(path, packing, file, start).chunks()


class _Unpacker:
    """Unpacks one stream after another: gzip members, bzip2 streams, frames of zstandard."""

    def __init__(self, path: str, packing: str, file: IO[bytes], start: bytes):
        self._path, self._packing, self._file = path, packing, file
        self._rest, self._read = start, len(start)

    def chunks(self) -> Iterator[bytes]:
        while self._rest or self._fill():
            yield from self._stream()
            if not self._rest and not self._fill():
                return
            # Tapes pad with zeros; anything else that is no further stream was not written by the packer.
            self._rest = self._rest.lstrip(b"\0")
            while not self._rest:
                if not self._fill():
                    return
                self._rest = self._rest.lstrip(b"\0")
            magic = _MAGIC[self._packing]
            while len(self._rest) < 4 and self._fill(append=True):
                pass
            if not self._rest.startswith(magic) and self._rest[:4] not in _SKIPPABLE:
                raise LogContractError(
                    f"{self._path}: goes on after the end of its {self._packing} stream, at byte {self._place()}, with "
                    f"{self._rest[:16]!r}: it is damaged, or something was appended to it. Write it anew."
                )

    def _fill(self, append: bool = False) -> bool:
        """Reads on; False: the file is at its end."""
        more = self._file.read(_PACKED_BYTES)
        self._rest = self._rest + more if append else more or self._rest
        self._read += len(more)
        return bool(more)

    def _place(self) -> int:
        return self._read - len(self._rest)

    def _stream(self) -> Iterator[bytes]:
        unpacker = _unpacker(self._packing)
        while True:
            before = self._place()
            try:
                chunk, self._rest = unpacker.unpack(self._rest)
            except unpacker.errors as error:
                raise LogContractError(
                    f"{self._path}: is damaged: its {self._packing} stream cannot be unpacked at byte {before} or in "
                    f"the {_PACKED_BYTES >> 10} KiB after it ({error}). Copy or write it anew."
                ) from error
            if chunk:
                yield chunk
            if unpacker.at_end:
                return
            if not self._rest and not chunk and not self._fill():
                raise LogContractError(
                    f"{self._path}: ends at byte {self._read}, in the middle of its {self._packing} stream: it was not "
                    "written or copied to its end. Copy or write it anew."
                )


def _unpacker(packing: str) -> Any:
    return {"gzip": _Gzip, "bzip2": _Bzip2, "zstandard": _Zstandard}[packing]()


class _Gzip:
    """One member of a gzip file; its checksum and length are verified."""

    errors = (zlib.error,)

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def at_end(self) -> bool:
        return self._stream.eof

    def unpack(self, packed: bytes) -> tuple[bytes, bytes]:
        """Returns at most `CHUNK_BYTES` of text, and what of `packed` was not used."""
        chunk = self._stream.decompress(packed, CHUNK_BYTES)
        return chunk, self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail


class _Bzip2:
    """One stream of a bzip2 file; its checksums are verified."""

    errors = (OSError, ValueError)

    def __init__(self) -> None:
        self._stream = bz2.BZ2Decompressor()

    @property
    def at_end(self) -> bool:
        return self._stream.eof

    def unpack(self, packed: bytes) -> tuple[bytes, bytes]:
        """Returns at most `CHUNK_BYTES` of text, and what of `packed` was not used: the stream keeps the rest."""
        chunk = self._stream.decompress(packed, CHUNK_BYTES)
        return chunk, self._stream.unused_data if self._stream.eof else b""


class _Zstandard:
    """One frame of a zstandard file; its checksum is verified where it has one."""

    #: Fed in small pieces, since what a piece unpacks to cannot be bounded.
    PIECE_BYTES = 1 << 14

    def __init__(self) -> None:
        import zstandard  # Not above: few logs are packed so.

        self.errors = (zstandard.ZstdError,)
        self._stream = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    @property
    def at_end(self) -> bool:
        return bool(self._stream.eof)

    def unpack(self, packed: bytes) -> tuple[bytes, bytes]:
        """Returns some text, and what of `packed` was not used."""
        piece, rest = packed[: self.PIECE_BYTES], packed[self.PIECE_BYTES :]
        chunk = self._stream.decompress(piece)
        return chunk, (self._stream.unused_data + rest if self._stream.eof else rest)


def what_begins_so(start: bytes) -> str:
    """Returns what a file is by its first bytes, as part of a sentence."""
    known = {
        b"PAR1": "a Parquet file",
        b"PARE": "an encrypted Parquet file",
        b"\x1f\x8b": "a gzip file (.gz)",
        b"BZh": "a bzip2 file (.bz2)",
        b"\x28\xb5\x2f\xfd": "a zstandard file (.zst)",
        b"\xfd7zXZ": "an xz file",
        b"PK\x03\x04": "a zip archive or an Excel file",
        b"\xd0\xcf\x11\xe0": "an Excel file",
        b"ORC": "an ORC file",
        b"Obj\x01": "an Avro file",
        b"ARROW1": "an Arrow file",
        b"SQLite": "a SQLite data base",
        codecs.BOM_UTF32_LE: "text in UTF-32: set the table's `encoding: utf-32`",
        codecs.BOM_UTF32_BE: "text in UTF-32: set the table's `encoding: utf-32`",
        codecs.BOM_UTF16_LE: "text in UTF-16: set the table's `encoding: utf-16`",
        codecs.BOM_UTF16_BE: "text in UTF-16: set the table's `encoding: utf-16`",
    }
    found = next((what for magic, what in known.items() if start.startswith(magic)), "")
    if found:
        return found
    printable = all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)
    return "text that is not packed" if start and printable else "something that Clickmill does not know"
