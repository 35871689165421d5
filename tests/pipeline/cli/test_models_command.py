"""`clickmill models …`: what releases say of models, what differs between two, and an override that is on record."""

import functools

import pytest

from features.errors import InputError
from pipeline.release.override import find_override, override
from serving.release.decisions import read_decisions
from serving.release.labels import promote
from tests.pipeline.cli.test_release_command import on_root
from tests.serving.release.release_example import push, release


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "serving_models")


@pytest.fixture
def run(root):
    return functools.partial(on_root, "models", root)


def test_models_are_listed_with_their_versions_labels_and_metrics(root, run):
    one, two = release(root, 1), release(root, 2)
    promote(root, one.id, "stable")
    rows = run("list", "--json")
    assert [(row["model"], row["version"], row["labels"]) for row in rows if row["model"] == "shop_hcn"] == [
        ("shop_hcn", 2, []),
        ("shop_hcn", 1, ["stable"]),
    ]
    assert [row["releases"] for row in rows if row["model"] == "shop_hcn"] == [[two.id], [one.id]]
    text = run("list")
    assert "shop_autoint" in text and "stable" in text and "auc" in text


def test_a_model_is_shown_with_the_decisions_on_it(root, run):
    one = release(root, 1)
    promote(root, one.id, "stable", by="ada", why="better by .004 AUC")
    text = run("show", "shop_hcn")
    assert "shop_hcn 1, stable" in text and f"promote {one.id} by ada: better by .004 AUC" in text
    assert [each["how"] for each in run("show", "shop_hcn", "--json")["decisions"]] == ["release", "promote"]
    assert "no release" in run("show", "shop_hcm", code=2) and "Did you mean `shop_hcn`" in run(
        "show", "shop_hcm", code=2
    )


def test_two_releases_are_compared(root, run):
    one = release(root, 1, metrics={"shop_hcn": {"auc": 0.7, "log_loss": 0.3}}, data="a")
    two = release(root, 2, metrics={"shop_hcn": {"auc": 0.71}}, data="b")
    found = run("diff", one.id, two.id, "--json")
    assert found["models"]["shop_hcn"] == {"before": 1, "after": 2, "metrics": {"auc": [0.7, 0.71]}}
    assert set(found["models"]) == {"shop_two_tower", "shop_hcn", "shop_autoint"}
    assert found["facts"]["data"] == ["a", "b"]
    text = run("diff", one.id)
    assert "shop_hcn: 1 → 2" in text and "auc 0.7000 → 0.7100 (+0.0100)" in text and "data: another" in text
    assert "they name the same" in run("diff", two.id, "latest")


def test_an_override_is_of_one_export_and_takes_a_reason(root):
    push(root, "shop_hcn", 1)
    push(root, "shop_hcn", 2)
    one, two, folder = f"{root}/shop_hcn/1", f"{root}/shop_hcn/2", f"{root}/shop_hcn"
    with open(f"{two}/fingerprint.pb", "w") as file:
        file.write("another export")
    with pytest.raises(InputError, match="takes a reason"):
        override(folder, one, {"min_auc": "0.4"}, " ", by="ada")
    assert find_override(folder, one) is None and read_decisions(root) == []
    override(folder, one, {"min_auc": "0.4"}, "a sale, agreed with the shop", by="ada")
    assert find_override(folder, one) == "ada: a sale, agreed with the shop"
    assert find_override(folder, two) is None and find_override(f"{root}/shop_autoint", one) is None
    (made,) = read_decisions(root, "shop_hcn")
    assert made.how == "bless" and made.evidence["failed_gates"] == {"min_auc": "0.4"}
