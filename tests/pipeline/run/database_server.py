"""Database servers of Debian's packages (.ci/database), each with an empty database, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

USER, DATABASE, PASSWORD = "clickmill", "mlmd", "se cret@1"
#: Where Debian puts what is not on PATH.
BESIDE = "/usr/sbin:" + ":".join(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


@contextlib.contextmanager
def server(kind: str) -> Iterator[str]:
    """Yields the URI, without its password, of an empty database; skips where there is no such server."""
    # Neither server runs as root, nor reads below a folder that is root's alone.
    with (
        tempfile.TemporaryDirectory(prefix="clickmill-") as name,
        {"postgresql": _postgresql, "mysql": _mariadb}[kind](Path(name)) as port,
    ):
        yield f"{kind}://{USER}@127.0.0.1:{port}/{DATABASE}"


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[int]:
    initdb, postgres, psql = (_program(name) for name in ("initdb", "postgres", "psql"))
    (folder / "password").write_text(PASSWORD)
    as_user = _as("postgres", folder)
    _run(
        *as_user, initdb, "-D", folder / "db", "-A", "scram-sha-256", "-U", USER, "--pwfile", folder / "password", "-N"
    )
    port = _free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    asked = [psql, "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-c", f"create database {DATABASE}", "postgres"]
    with _running([*as_user, postgres, "-D", folder / "db", *options], asked, {"PGPASSWORD": PASSWORD}):
        yield port


@contextlib.contextmanager
def _mariadb(folder: Path) -> Iterator[int]:
    install, mariadbd, client = (_program(name) for name in ("mariadb-install-db", "mariadbd", "mariadb"))
    as_user = _as("nobody", folder)
    _run(*as_user, install, f"--datadir={folder}/db", "--auth-root-authentication-method=normal", "--skip-test-db")
    port = _free_port()
    options = [f"--datadir={folder}/db", f"--port={port}", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
    command = [*as_user, mariadbd, "--no-defaults", "--bind-address=127.0.0.1", *options]
    rights = f"create user {USER}@127.0.0.1 identified by '{PASSWORD}'; grant all on {DATABASE}.* to {USER}@127.0.0.1"
    asked = [client, "-S", folder / "socket", "-u", "root", "-e", f"create database {DATABASE}; {rights}"]
    with _running(command, asked, {}):
        yield port


@contextlib.contextmanager
def _running(command: list, ready: list, env: dict[str, str], seconds: float = 60.0) -> Iterator[None]:
    """Runs a server, once a command that asks it succeeds."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = time.monotonic() + seconds
        while subprocess.run([str(word) for word in ready], capture_output=True, env=os.environ | env).returncode:
            assert process.poll() is None and time.monotonic() < until, f"{command} does not answer"
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _as(user: str, folder: Path) -> list[str]:
    """The words before a command by which root runs it as a user, to whom the folder is given; none for others."""
    if os.getuid() != 0:
        return []
    shutil.chown(folder, user)
    for path in folder.iterdir():
        shutil.chown(path, user)
    return ["setpriv", f"--reuid={user}", "--clear-groups"]


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:{BESIDE}")
    if found is None:
        pytest.skip(f"{name} is not installed: .ci/database installs it")
    return found


def _run(*command) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, cwd="/")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
