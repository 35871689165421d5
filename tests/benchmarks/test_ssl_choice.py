"""The retrieval benchmark chooses on eval and compares seed by seed."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.candidates import ssl


def run_of(method: str, setting: dict, seed: int, on_eval: float, on_test: float) -> dict:
    def table(value):
        return {part: {"pairs": 10, **{m: value for m in ("recall@10", "recall@50", "map@10")}} for part in PARTS}

    key = ssl.key_of("simulated", 1.0, method, setting, seed)
    return {**key, "eval": table(on_eval), "test": table(on_test)}


PARTS = ("all", "head", "tail", "unseen")


def test_settings_are_chosen_on_eval_and_gains_are_by_seed():
    settings = ssl.settings_tried("simulated", "cfm")
    runs = [run_of("none", {}, seed, 0.2, base) for seed, base in ((1, 0.20), (2, 0.30), (3, 0.10))]
    runs += [
        run_of("cfm", setting, 1, value, 0.9 - value)
        for setting, value in zip(settings, (0.3, 0.5, 0.4, 0.2), strict=True)
    ]
    assert ssl.chosen_setting(runs[:-1], "cfm") is None  # not all were tried
    assert ssl.chosen_setting(runs, "cfm") == settings[1]  # best on eval, worst on test
    runs += [run_of("cfm", settings[1], seed, 0.5, value) for seed, value in ((2, 0.51), (3, 0.30))]
    row = ssl.summarise(runs)["simulated 1"]["cfm"]
    assert row["setting"] == settings[1] and row["seeds"] == [1, 2, 3]
    assert row["tail"]["recall@10 gain"] == pytest.approx([np.mean([0.2, 0.21, 0.2]), 0.01 / 3**0.5])
    other = {**run_of("none", {}, 4, 0.2, 0.9), "settings": {"model": "another"}}
    assert ssl.summarise([*runs, other]) == ssl.summarise(runs)


def test_thinning_takes_a_share_of_train_alone(tmp_path):
    for split in ("train", "eval"):
        (tmp_path / "encoded" / f"Split-{split}").mkdir(parents=True)
        path = tmp_path / "encoded" / f"Split-{split}" / "requests-00000-of-00001.parquet"
        pq.write_table(pa.table({"x": np.arange(5000)}), path)
    thin = ssl.thin_out(tmp_path / "encoded", 0.1)
    rows = {s: pq.read_table(thin / f"Split-{s}" / "requests-00000-of-00001.parquet")["x"] for s in ("train", "eval")}
    assert abs(len(rows["train"]) - 500) < 4.5 * np.sqrt(5000 * 0.09) and len(rows["eval"]) == 5000
    whole = pq.read_table(tmp_path / "encoded" / "Split-train" / "requests-00000-of-00001.parquet")
    assert len(whole) == 5000  # the links do not reach back
    assert ssl.thin_out(tmp_path / "encoded", 1.0) == tmp_path / "encoded"
