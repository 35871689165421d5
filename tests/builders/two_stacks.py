"""Exports of every stage of a cascade and what they answer, for another stack to load and to answer alike.

python -m tests.builders.two_stacks make DIR    exports two_tower, hcn and autoint and writes requests and answers
python -m tests.builders.two_stacks check DIR   loads them, answers the same requests, and compares
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from features.examples.raw_sample import json_request, read_requests
from serving.cascade import Cascade, CascadeConfig
from tests.builders.cascade_example import export_models, make_log

TOLERANCE = 1e-6
REQUESTS = 20
EVERY_ITEM = CascadeConfig(retrieve=60, coarse=60, top_k=60)  # what is retrieved passes all stages


def make(directory: Path) -> None:
    work = directory / "work"
    raw, encoded, encoding = make_log(work)
    export_models(encoded, encoding, directory)
    shutil.copyfile(work / "raw" / "examples" / "catalogue" / "items.parquet", directory / "items.parquet")
    spec = load(directory).ranker.spec
    tables = read_requests(work / "raw" / "examples", work / "raw" / "behaviors", spec, "eval", REQUESTS)
    requests = [json_request(row, spec) for table in tables for row in table.to_pylist()]
    requests = [{part: values for part, values in request.items() if part != "candidates"} for request in requests]
    shutil.rmtree(work)
    (directory / "requests.json").write_text(json.dumps(requests), encoding="utf-8")
    (directory / "answers.json").write_text(json.dumps(answer(directory)), encoding="utf-8")


def load(directory: Path) -> Cascade:
    models = [directory / name for name in ("two_tower", "autoint")]
    return Cascade.load(*models, directory / "items.parquet", coarse=directory / "hcn", config=EVERY_ITEM)


def answer(directory: Path) -> list[dict[str, dict[str, float]]]:
    """Returns {item: {stage: score}} of each request; the fine ranker's is its probability."""
    cascade = load(directory)
    answers = []
    for request in json.loads((directory / "requests.json").read_text(encoding="utf-8")):
        listed = cascade.recommend(request, explain=True)
        answers.append(
            {
                str(item.item_id): {stage: said.score for stage, said in item.stages.items()} | {"fine": item.score}
                for item in listed
            }
        )
    return answers


def check(directory: Path) -> dict[str, float]:
    """Returns the largest difference of each stage.

    Raises:
      AssertionError: if an item is missing, or a score differs by more than the tolerance.
    """
    theirs, ours = json.loads((directory / "answers.json").read_text(encoding="utf-8")), answer(directory)
    assert len(theirs) == len(ours) == REQUESTS
    largest = dict.fromkeys(("retrieve", "coarse", "fine"), 0.0)
    for their, our in zip(theirs, ours, strict=True):
        assert their.keys() == our.keys()
        for stage in largest:
            pairs = np.array([(their[item][stage], our[item][stage]) for item in our])
            largest[stage] = max(largest[stage], float(np.abs(pairs[:, 0] - pairs[:, 1]).max()))
    assert max(largest.values()) <= TOLERANCE, largest
    return largest


if __name__ == "__main__":
    action, path = sys.argv[1], Path(sys.argv[2]).resolve()
    here = f"Python {platform.python_version()}, TensorFlow {tf.__version__}"
    if action == "make":
        make(path)
        print(f"two stacks: exported and answered by {here}")
    else:
        print(f"two stacks: read by {here}, largest differences of {REQUESTS} requests:", check(path))
