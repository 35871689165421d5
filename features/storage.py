"""Files and folders by their path or URI: the one module that reads, writes, lists and deletes data.

A path is a string, with or without a scheme (`runs/shop`, `gs://bucket/run`, `memory://test`); fsspec knows the file
system of each scheme. What is written appears whole or not at all: on a local file system it is written aside and
renamed, elsewhere it is written to a local file and put in one call. Libraries that need local files (LMDB, SavedModel)
stage by `local_copy` and `publishing`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from features.errors import InputError, OccupiedError

if TYPE_CHECKING:
    import pyarrow as pa

#: A local path, or a URI as a string. A `Path` cannot hold a URI: it makes `gs://b` into `gs:/b`.
AnyPath = str | os.PathLike[str]


def is_local(path: AnyPath) -> bool:
    """Whether the path lies on this machine's file system."""
    return fsspec.core.split_protocol(os.fspath(path))[0] in (None, "file", "local")


def absolute(path: AnyPath) -> str:
    """Returns a local path from the root of its file system, and a URI with a scheme unchanged."""
    return _resolve(path)[1] if is_local(path) else os.fspath(path)


def join(folder: AnyPath, *parts: str) -> str:
    """Returns the path of something in a folder; the scheme stays."""
    return "/".join([os.fspath(folder).rstrip("/") if parts else os.fspath(folder), *parts])


def parent(path: AnyPath) -> str:
    """Returns the folder that holds a path; the scheme stays."""
    head, _, _ = os.fspath(path).rstrip("/").rpartition("/")
    return head or "."


def name(path: AnyPath) -> str:
    """Returns the last part of a path."""
    return os.fspath(path).rstrip("/").rpartition("/")[2]


def exists(path: AnyPath) -> bool:
    """Whether there is a file or a folder."""
    system, inner = _resolve(path)
    return bool(system.exists(inner))


def is_file(path: AnyPath) -> bool:
    """Whether there is a file."""
    system, inner = _resolve(path)
    return bool(system.isfile(inner))


def is_folder(path: AnyPath) -> bool:
    """Whether there is a folder; on an object store, whether anything lies under that name."""
    system, inner = _resolve(path)
    return bool(system.isdir(inner))


def size(path: AnyPath) -> int:
    """Returns the size of a file in bytes. Raises `FileNotFoundError`."""
    system, inner = _resolve(path)
    return int(system.size(inner))


def entries(folder: AnyPath, pattern: str = "*") -> list[str]:
    """Returns the paths of what lies directly in a folder, sorted; hidden names only where the pattern begins so.

    A folder that is not there holds nothing.

    Args:
      folder: where to look.
      pattern: of names, as of `fnmatch`.
    """
    system, inner = _resolve(folder)
    if not system.isdir(inner):
        return []
    names = {name(found) for found in system.ls(inner, detail=False, **_fresh(system))}
    hidden = pattern.startswith(".")
    return [
        join(folder, each) for each in sorted(names) if fnmatch.fnmatch(each, pattern) and (hidden or each[0] != ".")
    ]


def files_under(folder: AnyPath) -> list[str]:
    """Returns the paths of all files at any depth below a folder, sorted."""
    system, inner = _resolve(folder)
    root = str(inner).rstrip("/")
    return sorted(join(folder, *found[len(root) :].strip("/").split("/")) for found in system.find(inner))


def match(path: AnyPath) -> list[str]:
    """Returns the files that a path stands for, sorted: a file itself, all files below a folder, or those of a glob.

    In a glob, `*`, `?` and `[…]` stay within a name, and `**` stands for any folders; a folder that it meets gives all
    its files. Linked files and folders are followed on a local file system; what several paths lead to is given once,
    by the one without links.

    Raises:
      InputError: for a link that leads nowhere, or something that is neither file nor folder (a named pipe would never
        end), unless its name begins with `_` or `.`.
    """
    text = os.fspath(path).rstrip("/")
    system, inner = _resolve(text)
    local = isinstance(system, LocalFileSystem)
    if system.isfile(inner):
        return [text]
    wild = re.search(r"[*?[]", text)
    if wild is None or (os.path.lexists(inner) if local else system.isdir(inner)):
        return _follow([(text, inner)]) if local else files_under(text)
    # What stands before the first wildcard stays as it was given: relative, or with its scheme.
    head, cut = text[: wild.start()], len(inner) - len(text) + wild.start()
    if local:
        return _follow([(head + each[cut:], each) for each in sorted(glob.glob(inner, recursive=True))])
    found = {head + each[cut:]: info["type"] for each, info in system.glob(inner, detail=True).items()}
    return sorted({file for each, kind in found.items() for file in ([each] if kind == "file" else files_under(each))})


def modified(path: AnyPath) -> float:
    """Returns when a file was last written, in seconds since 1970. Raises `FileNotFoundError`."""
    system, inner = _resolve(path)
    return float(system.modified(inner).timestamp())


def open_read(path: AnyPath) -> IO[bytes]:
    """Opens a file for reading bytes. Raises `FileNotFoundError`."""
    system, inner = _resolve(path)
    return system.open(inner, "rb")


def open_arrow(path: AnyPath, mapped: bool = True) -> pa.NativeFile:
    """Opens a file for Arrow's readers: mapped into memory where it is local. Raises `FileNotFoundError`.

    Args:
      path: the file.
      mapped: whether to map it; what is mapped and read counts as memory of the process.
    """
    import pyarrow as pa  # Not above: configuration is read without it, in half the time.

    system, inner = _resolve(path)
    if isinstance(system, LocalFileSystem):
        return pa.memory_map(inner) if mapped else pa.OSFile(inner)
    return pa.PythonFile(system.open(inner, "rb"), mode="r")


def read_bytes(path: AnyPath) -> bytes:
    """Returns a whole file. Raises `FileNotFoundError`."""
    with open_read(path) as file:
        return file.read()


def read_text(path: AnyPath) -> str:
    """Returns a whole file of UTF-8. Raises `FileNotFoundError`."""
    return read_bytes(path).decode("utf-8")


@contextlib.contextmanager
def writing(path: AnyPath, durable: bool = False) -> Iterator[IO[bytes]]:
    """Opens a file for writing bytes, which appears whole when the block ends and not at all if it raises."""
    with aside(path, durable) as local, open(local, "wb") as file:
        yield file


@contextlib.contextmanager
def aside(path: AnyPath, durable: bool = False) -> Iterator[str]:
    """Yields a local path to write to; the file takes the place of `path` when the block ends, unless it raises.

    For libraries that write to a path; folders on the way are made.

    Args:
      path: the file that appears.
      durable: whether it is on disk when the block has ended, and before it appears: also where the power fails.
    """
    system, inner = _resolve(path)
    if isinstance(system, LocalFileSystem):
        target = Path(inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, local = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(descriptor)
        os.chmod(local, 0o666 & ~_umask())
        try:
            yield local
            if durable:
                _to_disk(local)
            os.replace(local, target)
            if durable:
                _to_disk(target.parent)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local)
            raise
    else:
        with tempfile.TemporaryDirectory(prefix="clickmill-") as folder:
            local = os.path.join(folder, name(path))
            yield local
            system.put_file(local, inner)


def write_bytes(path: AnyPath, content: bytes, durable: bool = False) -> None:
    """Writes a whole file; `durable` as of `aside`."""
    with writing(path, durable) as file:
        file.write(content)


def write_text(path: AnyPath, content: str, durable: bool = False) -> None:
    """Writes a whole file as UTF-8; `durable` as of `aside`."""
    write_bytes(path, content.encode("utf-8"), durable)


@contextlib.contextmanager
def publishing(folder: AnyPath, replace: bool = False, durable: bool = False) -> Iterator[str]:
    """Yields a new local folder to fill, which takes the place of `folder` when the block ends, unless it raises.

    On a local file system one rename publishes it. Elsewhere its files are put one after the other, those named first
    that lie deepest, so that what names the others (a manifest at the top) comes last.

    Args:
      folder: the folder that appears.
      replace: whether to delete, once the new folder is whole, one that is there.
      durable: as of `aside`, for everything in the folder.

    Raises:
      OccupiedError: if a file of that name is there, or `folder` is there and not empty, and is not to be replaced.
    """
    if is_file(folder):
        raise OccupiedError(f"{os.fspath(folder)} is a file: it is not replaced by a folder.")
    if not replace and (entries(folder) or entries(folder, ".*")):
        raise OccupiedError(f"{os.fspath(folder)} is there already and not empty.")
    system, inner = _resolve(folder)
    if isinstance(system, LocalFileSystem):
        target = Path(inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        local = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.chmod(local, 0o777 & ~_umask())
        try:
            yield local
            if durable:
                for path in (*Path(local).rglob("*"), Path(local)):
                    _to_disk(path)
            with _set_aside(target, Path(f"{local}.old")) if replace else contextlib.nullcontext():
                os.replace(local, target)
            if durable:
                _to_disk(target.parent)
        except BaseException:
            shutil.rmtree(local, ignore_errors=True)
            raise
    else:
        with tempfile.TemporaryDirectory(prefix="clickmill-") as local:
            yield local
            if replace:
                delete(folder)
            found = [path.relative_to(local) for path in Path(local).rglob("*") if path.is_file()]
            for relative in sorted(found, key=lambda path: (-len(path.parts), path)):
                system.put_file(os.path.join(local, relative), f"{inner.rstrip('/')}/{relative.as_posix()}")


@contextlib.contextmanager
def local_copy(path: AnyPath) -> Iterator[str]:
    """Yields a local path of a file or folder: itself where it is local, else a copy as long as the block lasts."""
    system, inner = _resolve(path)
    if isinstance(system, LocalFileSystem):
        yield str(inner)
        return
    with tempfile.TemporaryDirectory(prefix="clickmill-") as folder:
        local = os.path.join(folder, name(path))
        system.get(inner, local, recursive=system.isdir(inner))
        yield local


def copy(source: AnyPath, target: AnyPath) -> None:
    """Copies a file, by a hard link where both lie on one local file system: written files are never changed."""
    if is_local(source) and is_local(target):
        link = _resolve(target)[1]
        os.makedirs(os.path.dirname(link) or ".", exist_ok=True)
        with contextlib.suppress(OSError):
            os.link(_resolve(source)[1], link)
            return
    with open_read(source) as read, writing(target) as write:
        shutil.copyfileobj(read, write, 1 << 20)


def copy_tree(source: AnyPath, target: AnyPath) -> None:
    """Copies all files below a folder, as `copy` does."""
    root = os.fspath(source).rstrip("/")
    for path in files_under(source):
        copy(path, join(target, *path[len(root) :].strip("/").split("/")))


def delete(path: AnyPath) -> None:
    """Deletes a file or a folder with all that it holds; what is not there is no error."""
    system, inner = _resolve(path)
    if isinstance(system, LocalFileSystem):
        if os.path.isdir(inner) and not os.path.islink(inner):
            shutil.rmtree(inner)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(inner)
    elif system.exists(inner):
        system.rm(inner, recursive=True)


def make_folder(path: AnyPath) -> None:
    """Makes a folder and those above it, where the file system has folders."""
    system, inner = _resolve(path)
    system.makedirs(inner, exist_ok=True)


def _resolve(path: AnyPath) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(os.fspath(path))
    except (ImportError, ValueError) as error:  # A scheme that is not known, or whose package is not installed.
        raise InputError(f"{os.fspath(path)}: {error}.") from error


def _follow(paths: list[tuple[str, str]]) -> list[str]:
    """Returns the local files that paths lead to, sorted, each once: links are followed after all else was found.

    Args:
      paths: as they are to be returned, and as the file system knows them.
    """
    files: dict[str, str] = {}
    folders: set[str] = set()
    linked = [each for each in paths if os.path.islink(each[1])]
    plain = [each for each in paths if not os.path.islink(each[1])]
    while plain or linked:
        shown, place = plain.pop() if plain else linked.pop(0)
        real = os.path.realpath(place)
        if os.path.isdir(place):
            if real not in folders:
                folders.add(real)
                below = [(f"{shown}/{each}", os.path.join(place, each)) for each in sorted(os.listdir(place))]
                linked += [each for each in below if os.path.islink(each[1])]
                plain += [each for each in below if not os.path.islink(each[1])]
        elif os.path.isfile(place):
            files.setdefault(real, shown)
        elif os.path.lexists(place) and name(shown)[:1] not in ("_", "."):
            kind = "a link that leads nowhere" if os.path.islink(place) else "no file (a pipe, a socket or a device)"
            raise InputError(f"{shown} is {kind}: remove it, or give a glob that leaves it out.")
    return sorted(files.values())


@contextlib.contextmanager
def _set_aside(target: Path, old: Path) -> Iterator[None]:
    """Moves a local folder to another name, deletes it there when the block ends and moves it back if that raises.

    rename(2) replaces no folder that holds something, and deleting takes its time: this way only two renames part the
    old from the new.
    """
    with contextlib.suppress(FileNotFoundError):
        os.rename(target, old)
    try:
        yield
    except BaseException:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _to_disk(path: AnyPath) -> None:
    """Forces a local file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fresh(system: Any) -> dict[str, bool]:
    """Object stores cache listings: what another process wrote must be seen."""
    return {} if isinstance(system, LocalFileSystem) else {"refresh": True}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
