"""A process of its own that loads a SavedModel once and scores one file of raw requests per line of its input.

python tests/builders/score_worker.py SAVED_MODEL_DIR
→ IN.arrow<TAB>OUT.npz
← done
"""

import sys

import numpy as np
import pyarrow as pa

from serving.requests.tensors import tensors_from_table
from serving.saved.ranker import SavedRanker


def main(model_dir: str) -> None:
    ranker = SavedRanker(model_dir)
    print("ready", flush=True)
    for line in sys.stdin:
        source, target = line.rstrip("\n").split("\t")
        with pa.ipc.open_file(source) as reader:
            table = reader.read_all()
        np.savez(target, **ranker.run("rank_requests", tensors_from_table(ranker.spec, table)))
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
