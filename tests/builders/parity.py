"""Generated raw requests, and a process of its own that scores them with an export."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from features.spec import MISSING_INT64
from tests.builders.small_ranker import (
    INTERESTS,
    SPEC,
    WORDS,
    raw_schema,
)

ROOT = Path(__file__).parents[2]

SEEN = {
    "age_band": ["10s", "50s"],
    "user_id": ["u1", "u39"],
    "hour": [0, 23],
    "interests": INTERESTS,
    "activity": [0, 1, 2, 3, 1999],
    "item_id": ["i0", "i29"],
    "shop_id": [-5, 9],
    "tags": [-3, 0, 11],
    "words": WORDS,
}
TEXT = st.one_of(
    st.sampled_from(["", " ", "\0", "a\0", "a\0\0", "é", "e\u0301", "\U0010ffff", "ﷺ" * 40, "unseen", "None", "nan"]),
    st.text(max_size=30),
)
INT64 = st.one_of(
    st.sampled_from([MISSING_INT64, MISSING_INT64 + 1, 2**63 - 1, -1, 0, 1, 2**53 + 1]),
    st.integers(-(2**63), 2**63 - 1),
)
FLOAT64 = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, np.nextafter(2.0, 3.0), 3.0, 5e-324, 1e-300, -1e30, 1e30, 3.4e38, -1.0]),
    st.floats(-1e300, 1e300),
    st.just(float("nan")),
)


def values_of(feature):
    values = {"string": TEXT, "int64": INT64, "float64": FLOAT64}[feature.dtype]
    if feature.name in SEEN:
        values = st.sampled_from(SEEN[feature.name]) | values
    values = st.none() | values
    return st.none() | st.lists(values, max_size=4) if feature.multi_valued else values


@st.composite
def raw_tables(draw):
    """Raw requests of any values."""
    rows = []
    for number in range(draw(st.integers(1, 3))):
        candidates = draw(st.integers(0 if rows else 1, 3))
        row = {"request_id": f"r{number}", "timestamp": number, "history_end": 0, "user_index": -1}
        for feature in SPEC.features:
            make = values_of(feature)
            row[feature.name] = draw(
                st.lists(make, min_size=candidates, max_size=candidates) if feature.scope == "candidate" else make
            )
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=raw_schema(SPEC))


class Worker:
    """Scores tables in a process of its own, through files."""

    def __init__(self, model_dir, directory):
        self.directory, self.count = directory, 0
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/builders/score_worker.py"), str(model_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._expect("ready")

    def score(self, table):
        self.count += 1
        source, target = self.directory / f"{self.count}.arrow", self.directory / f"{self.count}.npz"
        with pa.ipc.new_file(source, table.schema) as writer:
            writer.write_table(table)
        print(source, target, sep="\t", file=self.process.stdin, flush=True)
        self._expect("done")
        with np.load(target) as outputs:
            return dict(outputs)

    def _expect(self, word):
        line = self.process.stdout.readline().strip()
        assert line == word, f"the scoring process said {line!r}"

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0
