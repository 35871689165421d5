"""What the drills of the gateway run against: a serving root with two releases, and `clickmill gateway` over it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.release.manifest import Release
from serving.release.registry import Releases
from serving.saved.saved_model import read_spec
from serving.user_stores.profiles.build import build_profiles
from tests.serving.gateway.gateway_case import STAGES, publish, push_models

#: Seconds within which models are loaded and the gateway is ready.
START_S = 180.0
#: By how much the weights of the second release differ: every stage scores otherwise.
_SCALE = 0.9


@dataclass(frozen=True)
class Stand:
    """A gateway that runs.

    Attributes:
      url: where it answers.
      pid: of its process; the model server's is another.
      log: what it writes to its standard error.
    """

    url: str
    pid: int
    log: Path

    @property
    def port(self) -> int:
        """Of HTTP, on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def resident_bytes(self) -> int:
        """Memory of the gateway's process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_releases(work: Path, root: Path) -> tuple[Release, Release]:
    """Publishes two releases of the exports of `cascade_example`; the second one's models have other weights.

    Both have tables and profiles of the whole log, and take behaviours in.
    """
    models = push_models(work, root)
    spec = read_spec(str(root / "autoint" / "1"), "ranker")
    built = build_profiles(spec, work / "raw" / "examples", work / "raw" / "behaviors", root / "profiles")
    profiles = f"profiles/{built['version']}"
    first = publish(work, root, models, profiles=profiles)
    models = push_models(work, root, version=2)
    for name in STAGES:
        _scale_weights(root / name / "2" / "variables" / "variables")
    return first, publish(work, root, models, profiles=profiles)


def _scale_weights(prefix: Path) -> None:
    """Multiplies the numbers that a SavedModel keeps, in place."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(prefix))
    names = sorted(reader.get_variable_to_shape_map())
    values = [reader.get_tensor(name) for name in names]
    scaled = [v * np.float32(_SCALE) if getattr(v, "dtype", None) == np.float32 else v for v in values]
    with tempfile.TemporaryDirectory() as aside:
        tf.raw_ops.SaveV2(
            prefix=f"{aside}/variables", tensor_names=names, shape_and_slices=[""] * len(names), tensors=scaled
        )
        for file in prefix.parent.iterdir():
            file.unlink()
        for file in Path(aside).iterdir():
            shutil.move(file, prefix.parent / file.name)


@contextlib.contextmanager
def command_stand(root: Path, *options: str, ends_by: signal.Signals = signal.SIGTERM) -> Iterator[Stand]:
    """Runs `clickmill gateway --with-server` on free ports until the block ends, and sees that it drains.

    Args:
      root: the serving root.
      *options: further ones of the command.
      ends_by: the signal that ends it.
    """
    command = [sys.executable, "-m", "pipeline.cli.app", "gateway", "--root", str(root), "--with-server"]
    command += ["--server", "127.0.0.1:0", "--rest-port", "0", "--port", "0", *options]
    log = root.parent / "gateway.log"
    with log.open("w") as errors:
        # Without line breaks: rich folds what it takes for a terminal.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield Stand(_address(process, log), process.pid, log)
        process.send_signal(ends_by)
        assert process.wait(60) == 0, f"the gateway ended with {process.returncode}: {log.read_text()[-3000:]}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _address(process: subprocess.Popen, log: Path) -> str:
    told, until = "", time.monotonic() + START_S
    for line in process.stdout:
        told += line
        assert not line.startswith("not ready"), told
        if found := re.match(r"gateway: (http://\S+),", line):
            return found.group(1)
        if time.monotonic() > until:
            break
    raise AssertionError(f"the gateway did not start: {told}{log.read_text()[-3000:]}")


@contextlib.contextmanager
def made_root(kept: Path | None = None) -> Iterator[tuple[Path, tuple[Release, Release]]]:
    """A serving root with both releases.

    Args:
      kept: a folder that it is made in, and found in the next time; None: it is gone when the block ends.
    """
    from tests.builders import cascade_example

    with contextlib.ExitStack() as stack:
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clickmill-")))
        root, work = folder / "serving", folder / "work"
        if not (root / "releases").is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            work.mkdir(parents=True)
            _, encoded, encoding = cascade_example.make_log(work)
            cascade_example.export_models(encoded, encoding, work)
            make_releases(work, root)
        second, first = Releases(root).all()
        yield root, (first, second)
