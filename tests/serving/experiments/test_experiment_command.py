"""`clickmill experiment check`: shares, users and moves of a file of experiments."""

import json

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app

FILE = """
layers:
  - name: ranker
    salt: s
    testers: [ann]
    earlier: [{old: 9500, new: 500}]
    variants:
      - {name: old, share: 7000}
      - {name: new, share: 2000, release: canary, exploration: {kind: epsilon, epsilon: 0.1}}
"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "experiments.yaml"
    found.write_text(FILE)
    return str(found)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["experiment", "check", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_says_shares_users_moves_and_what_users_get(path):
    found = json.loads(run(path, "--users", "20000", "--json", "-u", "ann", "-u", "int:7"))
    (layer,) = found["layers"]
    assert [(row["variant"], row["share"]) for row in layer["variants"]] == [("old", 7000), ("new", 2000), ("-", 1000)]
    assert sum(row["users"] for row in layer["variants"]) == 20_000
    assert all(abs(row["users"] / 20_000 - row["share"] / 10_000) < 0.015 for row in layer["variants"])
    assert layer["moved"] == 2500 and layer["variants"][1]["policy"] == "epsilon: epsilon 0.1, top 50"
    assert found["users"].keys() == {"ann", "int:7"}
    text = run(path, "-u", "ann")
    assert "25.00 % of its users move" in text and "user ann: " in text


def test_a_file_without_experiments_is_one(tmp_path):
    (tmp_path / "none.yaml").write_text("layers: []")
    assert "holds no experiment" in run(str(tmp_path / "none.yaml"))
