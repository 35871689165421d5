"""The manifest: what it may name, what it refuses, and how it is read back."""

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features import storage
from features.config import SpecError
from features.errors import InputError, NotFoundError, RunError
from serving.release.cascade_options import cascade_options
from serving.release.contents import problems_of
from serving.release.manifest import Release, ReleasedModel, created_at, fingerprint, new_release_id
from serving.release.prune import plan_prune, prune
from serving.release.publish_release import publish_release
from serving.release.registry import Releases
from tests.serving.release.release_example import MODELS, push, put_items, release

#: As others may write it by hand: nothing but what every reader needs.
BY_HAND = {
    "id": "20261126T073000-1f2e3d4c",
    "created": "2026-11-26T07:30:00Z",
    "models": [{"name": "shop_autoint", "stage": "fine", "version": 17, "path": "shop_autoint/17"}],
}


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "serving_models")
    else:
        yield "memory://release-tests"
        storage.delete("memory://release-tests")
        storage.delete("memory://release-tests_run")


def test_a_manifest_by_hand_is_a_release():
    made = Release.model_validate(BY_HAND)
    assert created_at(made) == datetime(2026, 11, 26, 7, 30, tzinfo=timezone.utc)
    assert made.model("shop_autoint").version == 17 and made.model("hcn") is None and made.tables_of("hcn") is None
    assert made.cascade is None and made.catalogue is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "../labels"}, "id"),
        ({"created": "2026-11-26T07:30:00"}, "offset from UTC"),
        ({"models": []}, "one model at least"),
        ({"models": BY_HAND["models"] * 2}, "`shop_autoint` twice"),
        ({"models": [BY_HAND["models"][0] | {"path": "shop_autoint/18"}]}, "<name>/<version>"),
        ({"models": [BY_HAND["models"][0] | {"path": "/shop_autoint/17"}]}, "stays where it starts"),
        ({"models": [BY_HAND["models"][0] | {"name": "..", "path": "../17"}]}, "path"),
        ({"models": [BY_HAND["models"][0] | {"version": -1}]}, "greater than or equal to 0"),
        ({"catalogue": "../items.parquet"}, "stays where it starts"),
        ({"catalogue": "gs://other/items.parquet"}, "stays where it starts"),
        ({"tables": [{"model": "hcn", "version": "v", "path": "hcn_bse"}]}, "`tables` names `hcn`"),
        ({"cascade_models": {"fine": "hcn"}}, "`cascade_models` names `hcn`"),
        ({"format": 2}, "format"),
        ({"modles": []}, "Did you mean `models`"),
    ],
)
def test_what_a_manifest_may_not_name(change, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        Release.model_validate(BY_HAND | change)


@given(st.text(min_size=1, max_size=30))
def test_no_path_leaves_the_root(path):
    """Whatever is accepted lies below the root, for every file system that could read it."""
    try:
        made = Release.model_validate(BY_HAND | {"catalogue": path})
    except ValidationError:
        return
    import os.path

    assert os.path.normpath(os.path.join("/root", made.catalogue)).startswith("/root/")
    assert "://" not in made.catalogue and "\\" not in made.catalogue


def test_ids_sort_by_time_and_the_newer_is_later_whatever_the_clock_says():
    future = datetime.now(timezone.utc) + timedelta(days=300)
    (first, at), (second, later) = new_release_id(), new_release_id(after=future)
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", first) and first < second
    assert datetime.fromisoformat(at) < future < datetime.fromisoformat(later)
    made, after = [], None
    for _ in range(50):
        made.append(new_release_id(after))
        after = datetime.fromisoformat(made[-1][1])
    assert sorted(made) == made and len({release_id for release_id, _ in made}) == 50


def test_a_fingerprint_knows_no_order_of_keys():
    assert fingerprint({"a": 1, "b": [2, "ü"]}) == fingerprint({"b": [2, "ü"], "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_a_release_is_read_back(root):
    tables = root.startswith("/")
    first = release(root, 1, tables=tables)
    second = release(root, 2, tables=tables, items="more items")
    releases = Releases(root)
    assert releases.all() == [second, first] and releases.get(first.id) == first
    assert releases.find("latest") == releases.labelled("latest") == second and releases.labels() == {}
    assert problems_of(releases, second) == []
    assert [model.path for model in second.models] == [f"{name}/2" for name in MODELS]
    file = next(file for file in second.model("shop_hcn").files if file.path == "saved_model.pb")
    assert file.bytes == len("saved_model.pb of shop_hcn 2")
    assert first.catalogue != second.catalogue and storage.read_text(releases.path(second.catalogue)) == "more items"
    storage.write_text(storage.join(root, "labels.json"), json.dumps({"stable": first.id}))
    assert releases.labelled("stable") == releases.find("stable") == first
    with pytest.raises(NotFoundError, match="no label `stabel`. Did you mean `stable`"):
        releases.labelled("stabel")
    with pytest.raises(NotFoundError, match="has no release 20261126T073000-1f2e3d4c"):
        releases.find(BY_HAND["id"])
    with pytest.raises(InputError, match="is no id of a release"):
        releases.find("../labels")


def test_a_root_without_releases(tmp_path):
    releases = Releases(tmp_path / "none")
    assert releases.all() == [] and releases.labels() == {}
    with pytest.raises(NotFoundError, match="holds no release. `clickmill run` makes one"):
        releases.find("latest")
    with pytest.raises(NotFoundError, match="No label is set there"):
        releases.labelled("stable")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps(BY_HAND | {"format": 9}), json.dumps(BY_HAND)])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "releases").mkdir()
    # The last one is whole, but lies under another id.
    name = "20990101T000000-00000000"
    (tmp_path / "releases" / f"{name}.json").write_text(text)
    with pytest.raises(SpecError, match=f"{name}.json"):
        Releases(tmp_path).get(name)


@pytest.mark.parametrize("text", ["", "[]", '{"stable": 1}'])
def test_damaged_labels_are_named(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(SpecError, match="labels.json"):
        Releases(tmp_path).labels()


def test_nothing_is_published_before_all_that_it_names_is_there(tmp_path):
    root = str(tmp_path / "serving_models")
    models = [push(root, name, 1) for name in MODELS]
    missing = ReleasedModel(name="shop_autoint", stage="fine", version=2, path="shop_autoint/2")
    with pytest.raises(NotFoundError, match="shop_autoint/2 holds no saved_model.pb"):
        publish_release(root, [*models[:2], missing])
    tables = {"model": "shop_autoint", "version": "v1", "path": "shop_autoint_bse"}
    with pytest.raises(RunError, match="not published: the bucket tables of shop_autoint: .*no BSE store is there"):
        publish_release(root, models, tables=[tables])
    with pytest.raises(RunError, match="is missing, the catalogue"):
        publish_release(root, models, catalogue="catalogues/x/items.parquet")
    assert Releases(root).all() == []


def test_a_release_that_would_serve_the_same_is_not_made_twice(tmp_path):
    root = str(tmp_path / "serving_models")
    first = release(root, 1)
    again = publish_release(
        root, first.models, items=put_items(root), unless_same_as=first, tables=first.tables, data="other logs",
        cascade=first.cascade, cascade_models=first.cascade_models,
    )  # fmt: skip
    assert again == first and Releases(root).ids() == [first.id]
    other = publish_release(root, first.models, items=put_items(root, "more"), unless_same_as=first)
    assert other.id != first.id and Releases(root).find("latest") == other


def test_the_most_clicked_items_are_part_of_a_release(tmp_path):
    root = str(tmp_path / "serving_models")
    lists = [put_items(f"{root}_{name}", name) for name in ("old", "new")]
    old, new = (release(root, version, popular_items=path) for version, path in zip((1, 2), lists, strict=True))
    releases = Releases(root)
    assert storage.read_text(releases.path(new.popular_items)) == "new" and old.popular_items != new.popular_items
    same = {name: getattr(new, name) for name in ("tables", "cascade", "cascade_models", "pipeline")}
    again = publish_release(root, new.models, items=put_items(root), popular_items=lists[0], unless_same_as=new, **same)
    assert again != new, "other popular items are another release"
    assert new.popular_items in plan_prune(root, 1).catalogues and old.popular_items == again.popular_items
    prune(root, 1)
    assert problems_of(releases, again) == [] and not storage.exists(releases.path(new.popular_items))
    storage.delete(releases.path(again.popular_items))
    assert problems_of(releases, again) == [f"{root}/{again.popular_items} is missing, the most clicked items."]


def test_what_is_missing_or_changed_is_found(tmp_path):
    root = str(tmp_path / "serving_models")
    made, releases = release(root, 1), Releases(root)
    hcn = tmp_path / "serving_models" / "shop_hcn" / "1"
    (hcn / "notes.txt").write_text("of somebody")
    assert problems_of(releases, made) == [], "what a release does not name is nothing to it"
    index = hcn / "variables" / "variables.index"
    same_length = index.read_text().replace("1", "2")
    index.write_text(same_length)
    (hcn / "assets.extra" / "spec ü.json").unlink()
    storage.delete(releases.path("shop_two_tower/1"))
    storage.write_text(releases.path(made.catalogue), "other")
    (tmp_path / "serving_models" / "shop_autoint_bse" / "v1").unlink()
    assert sorted(problems_of(releases, made)) == sorted(
        [
            f"{root}/shop_two_tower/1 is missing, version 1 of shop_two_tower.",
            f"{root}/shop_hcn/1/assets.extra/spec ü.json is missing.",
            f"{root}/shop_hcn/1/variables/variables.index has changed since it was released.",
            f"{root}/{made.catalogue} has changed, the catalogue.",
            "the bucket tables of shop_autoint: "
            f"{root}/shop_autoint_bse holds no published version. Build one with `clickmill bse build`.",
        ]
    )


def test_the_cascade_of_a_release_as_options(root):
    tables = root.startswith("/")
    made, releases = release(root, 7, tables=tables), Releases(root)
    assert cascade_options(releases, made) == {
        "two_tower": f"{root}/shop_two_tower/7",
        "coarse": f"{root}/shop_hcn/7",
        "ranker": f"{root}/shop_autoint/7",
        "tables": f"{root}/shop_autoint_bse" if tables else None,
        "items": f"{root}/{made.catalogue}",
        "retrieve": 300,
        "passed": 30,
        "top": 3,
    }
    alone = made.model_copy(update={"cascade": None})
    with pytest.raises(InputError, match="is no cascade but shop_two_tower, shop_hcn, shop_autoint"):
        cascade_options(releases, alone)
