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

from serving.offline.prediction import PredictionModel, predict_requests
from tests.builders.small_ranker import json_request, random_requests

pytestmark = pytest.mark.slow  # processes that load TensorFlow

ROOT = Path(__file__).parents[3]

OPTIONS = {"unit_bytes": 6000, "max_rejected": 1.0}

# Predicts in children that kill themselves before or after the n-th file that they publish or delete; each goes on
# where the one before was killed, and says what it found. TensorFlow is imported once for all, and begins to work in
# each of them.
PREDICTOR = f"""
import os, sys
from tests.builders.kill_points import run_children
from features import storage
from serving.offline.prediction import PredictionModel, predict_requests
import tensorflow

model, inputs, *pairs = sys.argv[1:]

def predict(out, points):
    print(*sorted(os.listdir(out)) if os.path.isdir(out) else [], flush=True)
    points.guard(os, "replace", where=lambda _, target: str(target).startswith(out + "/"))
    points.guard(storage, "delete", where=lambda path: str(path).startswith(out + "/"))
    predict_requests([inputs], out, PredictionModel(model), **{OPTIONS})

run_children(pairs, predict)
"""


def command(base_dir, inputs, *pairs):
    return [sys.executable, "-c", PREDICTOR, str(base_dir), str(inputs), *pairs]


def predict(base_dir, inputs, out):
    predict_requests([str(inputs)], str(out), PredictionModel(str(base_dir)), **OPTIONS)


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
    predict(base_dir, folder / "in", folder / "whole")
    whole = content(folder / "whole")
    assert len(whole) > 8 and "prediction.json" in whole
    return folder, whole


def test_killed_again_and_again(base_dir, case):
    """Each run goes on where the one before was killed."""
    folder, whole = case
    out = folder / "again"
    # After a part; before one, beside what was rejected of it; before what is rejected; after it; to the end.
    pairs = [f"{out}={moment}" for moment in (5, 4, 8, 9, -1)]
    done = subprocess.run(
        command(base_dir, folder / "in", *pairs), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()[:-1]]  # the last says how many moments there were
    assert not any("prediction.json" in names for names in found)
    assert [sum(name.startswith("scores-") for name in names) for names in found] == [0, 1, 1, 2, 3]
    assert content(out) == whole


def test_killed_from_outside_while_a_part_is_written(base_dir, case):
    folder, whole = case
    out = folder / "outside"
    process = subprocess.Popen(
        command(base_dir, folder / "in", f"{out}=-1"),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 240
    # At a change of the output, whichever it is: a part that is written aside, or one that is there.
    while process.poll() is None and not (out.exists() and os.listdir(out)) and time.monotonic() < until:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)  # and its child, which predicts
    process.wait()
    assert os.listdir(out)
    predict(base_dir, folder / "in", out)
    assert content(out) == whole
