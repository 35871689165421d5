"""The retrieval benchmark chooses on eval, compares seed by seed, and keeps what is finished."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import ssl
from benchmarks.run_records import RunRecords, spread


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
    gain = row["tail"]["recall@10"]["gain"]
    assert gain["mean"] == pytest.approx(np.mean([0.2, 0.21, 0.2])) and gain["std"] == pytest.approx(0.01 / 3**0.5)
    other = {**run_of("none", {}, 4, 0.2, 0.9), "settings": {"model": "another"}}
    assert ssl.summarise([*runs, other]) == ssl.summarise(runs)


def test_finished_runs_are_found_and_replaced_by_key(tmp_path):
    records = RunRecords(tmp_path / "results" / "runs.json", ssl.same_key, ssl.summarise)
    first, second = run_of("none", {}, 1, 0.1, 0.1), run_of("none", {}, 2, 0.1, 0.1)
    assert records.find(first) is None
    for run in (first, second, {**first, "note": "again"}):
        records.add(run)
    assert records.find(first)["note"] == "again" and len(records.load()) == 2
    saved = json.loads((tmp_path / "results" / "runs.json").read_text())
    assert saved["summary"]["simulated 1"]["none"]["seeds"] == [1, 2]


def test_undefined_figures_are_null_since_json_has_no_nan(tmp_path):
    records = RunRecords(tmp_path / "runs.json", lambda run: run["seed"], lambda runs: spread([r["auc"] for r in runs]))
    records.add({"seed": 1, "auc": 0.5})
    records.add({"seed": 2, "auc": float("nan"), "drops": [float("nan"), 1.0]})
    saved = json.loads((tmp_path / "runs.json").read_text(), parse_constant=pytest.fail)
    assert saved["summary"] == {"mean": None, "std": None}
    assert saved["runs"][1] == {"seed": 2, "auc": None, "drops": [None, 1.0]}


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
