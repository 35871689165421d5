"""The ranker of docs/guides/add-a-model.md, outside the repository, is trained, judged, exported, ranked with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from features.spec import load_spec
from tests.contracts.outside_model import blocks, guide_models, write_package
from tests.e2e.small_run import GATES

ROOT = Path(__file__).parents[2]

RUN = """
import json
import sys
import clickmill as cm

result = cm.run_pipeline(cm.load_config(sys.argv[1]))
request = json.loads(open(result.request).read())
ranked = cm.Ranker(result.models["dcn"].pushed).rank(request)
json.dump(
    {
        "states": {run.component: run.state for run in result.components},
        "outputs": {run.component: run.outputs for run in result.components},
        "auc": result.models["dcn"].evaluation.model.metrics["auc"].value,
        "ranked": {str(item.item_id): item.score for item in ranked},
        "request": request["request_id"],
        "report": str(result.report_json),
        "repository": [path for path in sys.path if path.endswith("my_shop")],
    },
    open(sys.argv[2], "w"),
)
"""


def test_the_ranker_of_the_guide_is_twenty_lines():
    ranker = blocks("python")[0].strip().splitlines()
    assert len([line for line in ranker if line.strip()]) <= 20
    assert guide_models()["dcn"]["kind"] == "my_shop.rankers:DCN"


@pytest.mark.slow
@pytest.mark.e2e
def test_a_ranker_from_outside_goes_all_the_way(tmp_path):
    package, log = write_package(tmp_path / "elsewhere"), tmp_path / "log"
    spec = load_spec(ROOT / "tfx_config" / "features_simulated.yaml").model_dump()
    config = {
        "name": "outside",
        "lanes": 1,
        "feature_spec": {**spec, "history": None},
        "simulate": {"out": str(log), "log": {"impressions": 20_000, "seed": 3}},
        "ingest": {
            "tables": {name: str(log / name) for name in ("impressions", "clicks", "items", "users")},
            "num_shards": 2,
        },
        "models": guide_models(),
        "evaluation": {
            "slices": {"features": ["age_band"], "min_rows": 300},
            "gates": GATES,
        },
    }
    profile, found = tmp_path / "profile.yaml", tmp_path / "found.json"
    profile.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-c", RUN, profile, found],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(found.read_text())
    for component in ("Trainer.dcn", "RankingEvaluator.dcn", "Pusher.dcn"):
        assert told["states"][component] == "COMPLETE"
    assert told["auc"] > 0.55  # it has learnt something
    # The pushed model, from raw values, gives the scores that its evaluation was by.
    predictions = pq.read_table(Path(told["outputs"]["RankingEvaluator.dcn"]["evaluation"]) / "predictions.parquet")
    rows = predictions.to_pandas().query("request_id == @told['request']")
    expected = {str(item): score for item, score in zip(rows["item_id"], rows["score"], strict=True)}
    assert told["ranked"] == pytest.approx(expected, abs=1e-6) and len(expected) > 1
    report = json.loads((tmp_path / told["report"]).read_text())
    assert report["run"]["model"] == "DCN (dcn)"
