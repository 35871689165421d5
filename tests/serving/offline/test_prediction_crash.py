"""SIGKILL at the moments of a prediction that matter: the same command ends with the same bytes."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders.small_ranker import json_request, random_requests

pytestmark = pytest.mark.slow  # processes that load TensorFlow

ROOT = Path(__file__).parents[3]

# Predicts in a process that kills itself before or after the n-th file that it publishes or deletes; -1: it lives.
PREDICTOR = """
import os, signal, sys
from features import storage
from serving.offline.prediction import PredictionModel, predict_requests

model, inputs, out, moment = sys.argv[1:]
passed = 0

def point():
    global passed
    if passed == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
    passed += 1

def guarded(owner, name, place):
    inner = getattr(owner, name)
    def call(*arguments, **options):
        ours = str(arguments[place]).startswith(out + "/")
        if ours:
            point()
        result = inner(*arguments, **options)
        if ours:
            point()
        return result
    setattr(owner, name, call)

guarded(os, "replace", 1)
guarded(storage, "delete", 0)
print("begin", flush=True)
predict_requests([inputs], out, PredictionModel(model), unit_bytes=6000, max_rejected=1.0)
"""


def run(base_dir, inputs, out, moment=-1):
    arguments = [sys.executable, "-c", PREDICTOR, str(base_dir), str(inputs), str(out), str(moment)]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def case(base_dir, tmp_path_factory):
    """Files of requests, some of which cannot be ranked, and what a job that nobody kills makes of them."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "in").mkdir()
    lines = [json.dumps(json_request(row)) for row in random_requests(60, seed=3).to_pylist()]
    lines[3::7] = ["[]"] * len(lines[3::7])
    text = "\n".join(lines).encode()
    (folder / "in" / "a.jsonl").write_bytes(text)
    (folder / "in" / "b.jsonl.gz").write_bytes(gzip.compress(text))
    done = run(base_dir, folder / "in", folder / "whole")
    assert done.returncode == 0, done.stderr
    whole = content(folder / "whole")
    assert len(whole) > 8 and "prediction.json" in whole
    return folder, whole


def test_killed_again_and_again(base_dir, case):
    """Each run goes on where the one before was killed."""
    folder, whole = case
    out, sizes = folder / "again", []
    # After a part; before one, beside what was rejected of it; before what is rejected; after it.
    for moment in (5, 4, 8, 9):
        assert run(base_dir, folder / "in", out, moment).returncode == -signal.SIGKILL
        assert not (out / "prediction.json").exists()
        sizes.append(len(list(out.glob("scores-*"))))
    assert sizes == [1, 1, 2, 3]
    done = run(base_dir, folder / "in", out)
    assert done.returncode == 0, done.stderr
    assert content(out) == whole


def test_killed_from_outside_while_a_part_is_written(base_dir, case):
    folder, whole = case
    out = folder / "outside"
    process = subprocess.Popen(
        [sys.executable, "-c", PREDICTOR, str(base_dir), str(folder / "in"), str(out), "-1"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 240
    # At a change of the output, whichever it is: a part that is written aside, or one that is there.
    while process.poll() is None and not (out.exists() and os.listdir(out)) and time.monotonic() < until:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert os.listdir(out)
    assert run(base_dir, folder / "in", out).returncode == 0
    assert content(out) == whole
