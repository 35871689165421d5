"""What the next release of a pipeline names: what a run allowed, and of the rest what the last release named."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation, PushedModel

from features import storage
from features.spec import load_spec
from pipeline.artifacts import BehaviorTableSet, ProfileSet, ReleaseNote
from pipeline.components.push.pusher import WholePushExecutor, push_whole
from pipeline.components.push.release_pusher import ReleasePusherExecutor
from pipeline.config import PipelineConfig, select_models
from pipeline.release.next_release import Allowed, release_plan, release_run
from serving.release.contents import problems_of
from serving.release.registry import Releases
from tests.builders.bse_example import build
from tests.builders.report_example import evaluation
from tests.serving.release.release_example import push, put_profiles

SPEC = load_spec(Path(__file__).parents[3] / "tfx_config" / "features_simulated.yaml")
MODELS = {"two_tower": {}, "autoint": {"parameters": {"history": {"long": "sdim"}}}, "hcn": {}}


@pytest.fixture
def config(tmp_path):
    return PipelineConfig.model_validate(
        {
            "name": "shop",
            "feature_spec": SPEC,
            "ingest": {"tables": {name: name for name in ("impressions", "clicks", "items", "users")}},
            "models": MODELS,
            "cascade": {"retrieve": 300, "coarse": 30, "top_k": 3},
            "run_dir": tmp_path / "run",
            "serving_dir": tmp_path / "serving",
        }
    )


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "items.parquet"
    path.write_text("items")
    return str(path)


def allow(root, version: int, *names: str) -> dict[str, Allowed]:
    """Pushes a version of models, with its tables; returns what a run says of them."""
    allowed = {}
    for name in names or MODELS:
        push(root, f"shop_{name}", version)
        tables = f"v{version}" if name == "autoint" else None
        if tables:
            build(f"{root}/shop_autoint_bse", tables, range(3))
        allowed[name] = Allowed(version, {"auc": version / 10}, tables)
    return allowed


def test_a_run_that_allows_all_names_all(config, items):
    plan = release_plan(config)
    made = release_run(plan, allow(plan.root, 1), items, "logs of today")
    assert [(model.name, model.version, model.stage, model.kept) for model in made.models] == [
        ("shop_two_tower", 1, "retrieval", False),
        ("shop_autoint", 1, "fine", False),
        ("shop_hcn", 1, "coarse", False),
    ]
    assert [(tables.model, tables.version, tables.path) for tables in made.tables] == [
        ("shop_autoint", "v1", "shop_autoint_bse")
    ]
    assert made.cascade_models == {"retrieval": "shop_two_tower", "coarse": "shop_hcn", "fine": "shop_autoint"}
    assert (made.cascade.retrieve, made.cascade.coarse, made.cascade.top_k) == (300, 30, 3)
    assert made.data == "logs of today" and made.metrics["shop_hcn"] == {"auc": 0.1}
    assert made.allowed_by.startswith("the gates of the pipeline shop, run by ")
    assert len(made.spec) == len(made.config) == 64
    assert Releases(plan.root).labels() == {}, "a run promotes nothing"


def test_what_a_run_does_not_allow_stays_as_it_was_released(config, items):
    plan = release_plan(config)
    first = release_run(plan, allow(plan.root, 1), items, "")
    second = release_run(plan, allow(plan.root, 2, "two_tower", "hcn"), items, "")
    assert {model.name: (model.version, model.kept) for model in second.models} == {
        "shop_two_tower": (2, False),
        "shop_autoint": (1, True),
        "shop_hcn": (2, False),
    }
    assert second.tables == first.tables and second.metrics["shop_autoint"] == {"auc": 0.1}
    assert second.cascade == first.cascade and problems_of(Releases(plan.root), second) == []
    # A part of the models is run: the others belong to the release all the same.
    part = release_plan(select_models(config, ["hcn"]))
    assert part == plan
    third = release_run(part, allow(plan.root, 3, "hcn"), items, "")
    assert {model.name: model.version for model in third.models} == {
        "shop_two_tower": 2,
        "shop_autoint": 1,
        "shop_hcn": 3,
    }
    # Another pipeline's releases are nothing to this one.
    other = plan.model_copy(update={"pipeline": "books"})
    assert [model.name for model in release_run(other, allow(plan.root, 4, "hcn"), items, "").models] == ["shop_hcn"]
    assert release_run(plan, allow(plan.root, 5, "hcn"), items, "").model("shop_autoint").version == 1


def test_nothing_allowed_is_no_release_and_nothing_new_none_either(config, items):
    plan = release_plan(config)
    assert release_run(plan, {}, items, "") is None
    first = release_run(plan, allow(plan.root, 1), items, "")
    allowed = {"hcn": Allowed(1, {"auc": 0.1})}
    assert release_run(plan.model_copy(update={"config": "other"}), allowed, items, "more") == first
    assert release_run(plan, {}, items, "") is None
    assert Releases(plan.root).ids() == [first.id]


def test_without_a_model_that_it_needs_there_is_no_cascade(config, items):
    plan = release_plan(config)
    alone = release_run(plan, allow(plan.root, 1, "two_tower", "hcn"), items, "")
    assert alone.cascade is None and alone.cascade_models == {}
    two_stages = release_run(plan, allow(plan.root, 2, "autoint"), items, "")
    assert two_stages.cascade is not None and set(two_stages.cascade_models) == {"retrieval", "coarse", "fine"}
    assert release_run(plan, allow(plan.root, 3, "autoint"), None, "").cascade is None, "no items"


def test_what_was_released_and_is_damaged_by_now_is_left_out(config, items):
    plan = release_plan(config)
    release_run(plan, allow(plan.root, 1), items, "")
    storage.delete(f"{plan.root}/shop_autoint_bse/v1")
    storage.write_text(f"{plan.root}/shop_hcn/1/saved_model.pb", "other")
    made = release_run(plan, allow(plan.root, 2, "two_tower"), items, "")
    assert [model.name for model in made.models] == ["shop_two_tower"] and made.tables == ()


def export(folder: Path, identity: str) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text("graph")
    (folder / "fingerprint.pb").write_text(identity)
    (folder / "variables" / "variables.index").write_text(identity)
    return folder


def test_a_push_appears_by_one_rename_and_the_next_version_is_higher(tmp_path, monkeypatch):
    one, two = export(tmp_path / "one", "1"), export(tmp_path / "two", "2")
    serving = tmp_path / "serving"
    seen = []
    rename = storage.os.replace

    def renamed(source, target):
        seen.append((sorted(path.name for path in serving.iterdir() if path.name.isdecimal()), Path(target).name))
        assert (Path(source) / "saved_model.pb").is_file() and (
            Path(source) / "variables" / "variables.index"
        ).is_file()
        rename(source, target)

    monkeypatch.setattr(storage.os, "replace", renamed)
    first = push_whole(one, serving)
    assert seen == [([], Path(first).name)]
    # A run that was killed after its push finds its model there.
    assert push_whole(one, serving) == first and len(seen) == 1
    # The clock is behind the latest version.
    monkeypatch.setattr("pipeline.components.push.pusher.time.time", lambda: 12.0)
    assert int(Path(push_whole(two, serving)).name) == int(Path(first).name) + 1
    # It is not the latest any more: pushed again, it is.
    assert int(Path(push_whole(one, serving)).name) == int(Path(first).name) + 2


def artifact(kind, path: Path, **properties):
    made = kind()
    made.uri = str(path)
    for name, value in properties.items():
        setter = made.set_int_custom_property if isinstance(value, int) else made.set_string_custom_property
        setter(name, value)
    return made


def test_the_pusher_marks_what_tfx_s_own_does(tmp_path):
    from tfx.proto.pusher_pb2 import PushDestination
    from tfx.utils import proto_utils

    export(tmp_path / "model" / "Format-Serving", "1")
    destination = PushDestination(filesystem={"base_directory": str(tmp_path / "serving")})
    properties = {"push_destination": proto_utils.proto_to_json(destination)}

    def pushed(blessed: int):
        given = {
            "model": [artifact(Model, tmp_path / "model")],
            "model_blessing": [artifact(ModelBlessing, tmp_path / "blessing", blessed=blessed)],
        }
        made = artifact(PushedModel, tmp_path / f"pushed{blessed}")
        WholePushExecutor().Do(given, {"pushed_model": [made]}, properties)
        return made

    refused = pushed(0)
    assert refused.get_int_custom_property("pushed") == 0 and not (tmp_path / "serving").exists()
    made = pushed(1)
    (version,) = (tmp_path / "serving").iterdir()
    assert made.get_int_custom_property("pushed") == 1
    assert made.get_string_custom_property("pushed_destination") == str(version)
    assert made.get_string_custom_property("pushed_version") == version.name
    assert (tmp_path / "pushed1" / "variables" / "variables.index").read_text() == "1", "the archive"


def test_the_component_reads_what_the_others_left(config, tmp_path):
    plan = release_plan(config)
    allow(plan.root, 7)
    (tmp_path / "examples" / "catalogue").mkdir(parents=True)
    (tmp_path / "examples" / "catalogue" / "items.parquet").write_text("items")
    (tmp_path / "examples" / "Split-train").mkdir()
    shown = pa.table({"item_id": [["i1", "i2"], ["i2", "i3"], ["i2", "i1"]], "click": [[1, 0], [1, 0], [1, 0]]})
    pq.write_table(shown, tmp_path / "examples" / "Split-train" / "requests-00000-of-00001.parquet")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "behavior_tables.json").write_text(json.dumps({"version": "v7", "users": 3}))
    evaluation().save(tmp_path / "evaluation")
    given = {"examples": [artifact(Examples, tmp_path / "examples", input_fingerprint="abc")]}
    for name in MODELS:
        place = {"pushed": int(name != "hcn"), "pushed_destination": f"{plan.root}/shop_{name}/7"}
        given[f"{name}_pushed_model"] = [artifact(PushedModel, tmp_path / "pushed", **place)]
        given[f"{name}_evaluation"] = [artifact(ModelEvaluation, tmp_path / "evaluation")]
    given["autoint_tables"] = [artifact(BehaviorTableSet, tmp_path / "tables")]
    named = put_profiles(plan.root, "p3")
    storage.write_text(tmp_path / "profiles" / "profiles.json", json.dumps({"version": "p3", "users": 3}))
    given["profiles"] = [artifact(ProfileSet, tmp_path / "profiles")]

    def run():
        note = artifact(ReleaseNote, tmp_path / "note")
        ReleasePusherExecutor().Do(given, {"release": [note]}, {"release_plan": plan.model_dump_json()})
        told = json.loads((tmp_path / "note" / "release.json").read_text())
        assert told == {"release": note.get_string_custom_property("release")}
        return told["release"]

    made = Releases(plan.root).get(run())
    assert [model.name for model in made.models] == ["shop_two_tower", "shop_autoint"], "hcn was not pushed"
    assert (
        made.profiles == named and made.tables[0].version == "v7" and made.data == "abc" and made.catalogue is not None
    )
    assert made.metrics["shop_autoint"] == evaluation().figures() and "auc" in made.metrics["shop_autoint"]
    popular = pq.read_table(Releases(plan.root).path(made.popular_items))
    assert popular.to_pydict() == {"item_id": ["i2", "i1"], "clicks": [2, 1]}
    for name in MODELS:
        given[f"{name}_pushed_model"][0].set_int_custom_property("pushed", 0)
    assert run() == "" and Releases(plan.root).ids() == [made.id]
