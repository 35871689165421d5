"""The front door: every name is there, none costs anything before it is used, and the README's example runs."""

import importlib
import os
import re
import subprocess
import sys

import pytest
import yaml

import clickmill
from tests.house.structure import ROOT

#: The names that HOUSE.md and the README promise.
PROMISED = {
    "load_config", "run_pipeline", "create_pipeline", "PipelineConfig", "FeatureSpec", "load_spec", "IngestConfig",
    "simulate", "run_ingest", "fit_encoding", "encode_examples", "FeatureEncoding", "AutoInt", "AwMoe", "Hcn",
    "TwoTower", "TrainingConfig", "train", "evaluate", "EvaluationConfig", "export_ranker", "Ranker", "Cascade",
    "BseStore", "score_examples", "ClickmillError",
}  # fmt: skip
HEAVY = ("tensorflow", "tfx", "pyarrow", "numpy", "apache_beam", "pydantic")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", clickmill.MODULES)
def test_every_name_stands_where_the_table_says(name):
    value = getattr(importlib.import_module(clickmill.MODULES[name]), name)
    assert getattr(clickmill, name) is value
    assert value.__module__ == clickmill.MODULES[name], "the table names the file of the definition, not a re-export"
    assert value.__doc__


def test_all_that_is_promised_is_there():
    assert set(clickmill.MODULES) >= PROMISED
    assert {*clickmill.MODULES, "__version__"} == set(clickmill.__all__) == set(dir(clickmill))


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match="has no name 'Rankr'.*Ranker"):
        clickmill.Rankr  # noqa: B018


def test_reading_the_table_loads_nothing_and_a_light_name_no_tensorflow():
    code = f"""
import sys
import clickmill
assert clickmill.MODULES["AutoInt"] and dir(clickmill) and clickmill.__version__
print([name for name in {HEAVY} if name in sys.modules])
clickmill.FeatureSpec, clickmill.ClickmillError, clickmill.IngestConfig, clickmill.load_spec
print([name for name in ("tensorflow", "tfx") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]"]


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    return code


def test_the_readme_uses_the_front_door_alone():
    names = set(re.findall(r"\bcm\.(\w+)", example()))
    assert names and names <= set(clickmill.MODULES)
    assert re.findall(r"^(?:from|import) (\w+)", example(), flags=re.MULTILINE) == ["json", "clickmill"]


@pytest.mark.slow
@pytest.mark.e2e
def test_the_readme_example_runs(tmp_path):
    """On a profile of the same name and a small log, in a new process, as it is printed."""
    profile = yaml.safe_load((ROOT / "tfx_config" / "simulated.yaml").read_text())
    profile["simulate"]["log"]["impressions"] = 6_000
    profile["models"] = {
        "autoint": {
            "parameters": {"exclude_features": ["item_id", "title"], "num_layers": 1},
            "training": {"epochs": 2, "input": {"batch_size": 256}},
        }
    }
    profile["evaluation"] = {
        "gates": dict.fromkeys(("min_rows", "min_positives", "min_auc", "max_baseline_auc_loss", "pcoc"))
    }
    del profile["cascade"]
    (tmp_path / "tfx_config").mkdir()
    (tmp_path / "tfx_config" / "simulated.yaml").write_text(yaml.safe_dump(profile))
    spec = (ROOT / "tfx_config" / "features_simulated.yaml").read_text()
    (tmp_path / "tfx_config" / "features_simulated.yaml").write_text(spec)
    (tmp_path / "readme.py").write_text(example())
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.strip().splitlines()[-3:]
    scores = [float(line.split()[-1]) for line in lines]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] <= scores[0] < 1
