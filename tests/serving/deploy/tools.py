"""Tools that tests of deployments and clients run, installed once below data/tools/; Clickmill itself needs none."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "data" / "tools"
CLIENTS = ROOT / "docs" / "guides" / "clients"
#: Schemas of Kubernetes and Compose, as packages.
VALIDATORS = ("kubernetes-validate==1.37.0", "compose-spec==0.2.1")
#: Seconds for an installation.
PATIENCE = 400


def manifest_validators() -> Path:
    """Returns the Python of an environment that has `VALIDATORS`."""
    return installed_environment(f"validators-{sys.version_info.major}.{sys.version_info.minor}", *VALIDATORS)


def installed_environment(name: str, *requirements: str) -> Path:
    """Returns the Python of an environment of its own that has some packages; made once, below data/tools/."""
    folder = TOOLS / name
    python = folder / "bin" / "python"
    with _installing(folder, "\n".join(requirements)) as needed:
        if needed:
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    return python


def node_client() -> list[str]:
    """Returns the command of the Node client, whose packages are installed; skips where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not on PATH")
    folder = TOOLS / "client-node"
    with _installing(folder, (CLIENTS / "node" / "package.json").read_text()) as needed:
        if needed:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(CLIENTS / "node" / "package.json", folder)
            _run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)])
    shutil.copy(CLIENTS / "node" / "rank.mjs", folder)
    return [node, str(folder / "rank.mjs")]


def go_client() -> list[str]:
    """Returns the command of the Go client, built; skips where there is no Go."""
    go = shutil.which("go")
    if not go:
        pytest.skip("go is not on PATH")
    folder, source = TOOLS / "client-go", CLIENTS / "go"
    with _installing(
        folder, "".join((source / name).read_text() for name in ("rank.go", "go.mod", "go.sum"))
    ) as needed:
        if needed:
            folder.mkdir(parents=True, exist_ok=True)
            _run([go, "build", "-mod=readonly", "-o", str(folder / "rank"), "."], cwd=source)
    return [str(folder / "rank")]


@contextmanager
def _installing(folder: Path, of: str) -> Iterator[bool]:
    """Yields whether something is to be installed; it counts as installed if the block ends well. One at a time."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    made = folder / "installed"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        needed = not made.exists() or made.read_text() != of
        yield needed
        if needed:
            made.write_text(of)


def _run(command: list[str], cwd: Path = ROOT) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)
    if done.returncode:
        what = f"{' '.join(command)}: {(done.stderr or done.stdout)[-2_000:]}"
        # Where tests must not be left out, a tool that cannot be had is a failure.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
