"""`clickmill serve config`: from the labelled releases of a serving root to the files of a server."""

import os

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipeline.cli.app import LazyGroup
from pipeline.cli.serving.serve_config import config
from serving.deploy.served import ServedModel, read_config
from serving.release import manifest

runner = CliRunner()
app = typer.Typer(cls=LazyGroup, rich_markup_mode=None)


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """The command under the group that turns errors into messages."""
    monkeypatch.setattr("pipeline.cli.app.COMMANDS", {"config": (f"{config.__module__}:config", "")})


def call(*arguments):
    return runner.invoke(app, ["config", *map(str, arguments)])


@app.callback()
def group():
    pass


def release(root, release_id, **versions):
    models = tuple(
        manifest.ReleasedModel(name=name, stage="fine", version=version, path=f"{name}/{version}")
        for name, version in versions.items()
    )
    made = manifest.Release(id=release_id, created="2026-11-26T07:30:00+00:00", models=models)
    (root / "releases").mkdir(parents=True, exist_ok=True)
    (root / "releases" / f"{release_id}.json").write_text(made.model_dump_json())


def label(root, **labels):
    (root / "labels.json").write_text(str(labels).replace("'", '"'))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "serving_models"
    release(folder, "r1", shop_autoint=12, shop_two_tower=4)
    release(folder, "r2", shop_autoint=17, shop_two_tower=4)
    label(folder, stable="r1")
    return folder


def test_the_stable_release_is_served_and_a_canary_beside_it(tmp_path, root):
    out = tmp_path / "deploy"
    result = call("--root", root, "--out", out, "--canary", "r2", "--callers", 8, "--cpus", 4)
    assert result.exit_code == 0, result.output
    assert "canary: release r2, stable: release r1" in result.stdout
    served, base = read_config(out / "server" / "models.config")
    assert base == "/models" and served == {
        "shop_autoint": ServedModel(frozenset({12, 17}), {"stable": 12, "canary": 17}),
        "shop_two_tower": ServedModel(frozenset({4}), {"stable": 4, "canary": 4}),
    }
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [
        *("compose.yaml", "kubernetes.yaml", "server/batching_params.pbtxt", "server/models.config"),
        *("server/monitoring.config", "server/ready.sh", "tf_serving.protoset"),
    ]
    service = yaml.safe_load((out / "compose.yaml").read_text())["services"]["serving"]
    assert "--grpc_max_threads=32" in service["command"] and service["volumes"][0]["source"] == "../serving_models"


def test_a_label_that_moves_is_written_as_three_reloads(tmp_path, root):
    out = tmp_path / "deploy"
    assert call("--root", root, "--out", out).exit_code == 0
    label(root, stable="r2")
    for _ in range(2):  # the same again leaves the steps to it
        result = call("--root", root, "--out", out)
        assert result.exit_code == 0, result.output
        steps = [read_config(path)[0] for path in sorted((out / "reload").iterdir())]
        assert sorted(os.listdir(out / "reload")) == ["1-load.config", "2-label.config", "3-retire.config"]
    assert "serve reload" not in result.stdout
    tower = {"shop_two_tower": ServedModel(frozenset({4}), {"stable": 4})}
    assert steps == [
        {"shop_autoint": ServedModel(frozenset({12, 17}), {"stable": 12})} | tower,
        {"shop_autoint": ServedModel(frozenset({12, 17}), {"stable": 17})} | tower,
        {"shop_autoint": ServedModel(frozenset({17}), {"stable": 17})} | tower,
    ]
    assert read_config(out / "server" / "models.config")[0] == steps[-1]


def test_settings_of_a_file_give_way_to_options(tmp_path, root):
    (tmp_path / "settings.yaml").write_text("cpus: 8\nmemory_mb: 4096\nbatching: {max_batch_size: 48}\n")
    out = tmp_path / "deploy"
    result = call(
        "--root", root, "--out", out, "--settings", tmp_path / "settings.yaml", "--memory", 1024, "--batching"
    )
    assert result.exit_code == 0, result.output
    service = yaml.safe_load((out / "compose.yaml").read_text())["services"]["serving"]
    assert service["deploy"]["resources"]["limits"] == {"cpus": "8", "memory": "1024M"}
    assert "--enable_batching=true" in service["command"]
    assert "max_batch_size { value: 48 }" in (out / "server" / "batching_params.pbtxt").read_text()


def test_the_root_is_named_from_where_compose_stands(tmp_path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("--root", "serving_models", "--out", ".").exit_code == 0
    service = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]["serving"]
    assert service["volumes"][0]["source"] == "./serving_models"


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--root", "{root}/gone"], "no such folder"),
        (["--root", "{root}", "--label", "stabel"], "no label `stabel`. Did you mean `stable`?"),
        (["--root", "{root}", "--canary", "r9"], "no release r9"),
        (["--root", "{root}", "--cpus", "0"], "cpus"),
        (["--root", "{root}", "--settings", "{root}/labels.json"], "`stable`"),
        (["--root", "{root}", "--base", "models"], "absolute path or a URI"),
    ],
)
def test_what_cannot_be_served_is_a_message(tmp_path, root, arguments, told):
    result = call("--out", tmp_path / "deploy", *(each.format(root=root) for each in arguments))
    assert result.exit_code == 2 and told in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "deploy").exists()


def test_a_root_without_labels_says_how_to_set_one(tmp_path, root):
    os.unlink(root / "labels.json")
    result = call("--root", root, "--out", tmp_path / "deploy")
    assert result.exit_code == 2 and "clickmill release promote" in result.stderr
