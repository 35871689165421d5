"""What every export promises, whoever wrote it: one that is listed here is held to it."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from features import storage
from features.errors import NotFoundError, OccupiedError
from features.examples.raw_sample import read_requests
from models.inputs.item_corpus import ItemCorpus
from serving.export.coarse import export_coarse
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.export.ranker import export_ranker
from serving.export.two_tower import export_two_tower
from serving.export.warmup import WARMUP_FILE
from serving.saved.coarse import SavedCoarse
from serving.saved.ranker import SavedRanker
from serving.saved.two_tower import SavedTwoTower
from tests.builders.small_ranker import random_requests
from tests.serving.export.test_coarse_export import coarse
from tests.serving.export.test_retrieval_export import two_tower
from tests.serving.export.warmup_file import warmup_requests

MEMORY = "memory://exports"


def ranker_export(request):
    model, encoding = request.getfixturevalue("model"), request.getfixturevalue("encoding")
    rows = random_requests(3, seed=2)
    return lambda directory, **options: export_ranker(model, encoding, directory, rows, **options)


def two_tower_export(request):
    small_log = request.getfixturevalue("small_log")
    model, rows = two_tower(small_log), some_rows(request)
    return lambda directory, **options: export_two_tower(model, small_log[1], directory, rows, **options)


def coarse_export(request):
    small_log = request.getfixturevalue("small_log")
    model, rows, corpus = coarse(small_log), some_rows(request), ItemCorpus.load(*small_log)
    return lambda directory, **options: export_coarse(model, small_log[1], directory, corpus, rows, **options)


def some_rows(request):
    raw, encoding = request.getfixturevalue("raw_small_log"), request.getfixturevalue("small_log")[1]
    return pa.concat_tables(read_requests(raw, raw / "behaviors", encoding.spec, "eval", 3))


EXPORTS = {
    "ranker": (ranker_export, SavedRanker),
    "two_tower": (two_tower_export, SavedTwoTower),
    "coarse": (coarse_export, SavedCoarse),
}


@pytest.fixture(scope="module", params=EXPORTS)
def exported(request, tmp_path_factory):
    """How it is exported, how it is opened, and version 1 on disk."""
    make, opened = EXPORTS[request.param]
    export = make(request)
    base = tmp_path_factory.mktemp(request.param)
    assert export(base / "1") == str(base / "1")
    yield export, opened, base
    storage.delete(MEMORY)


def contents(folder) -> dict[str, bytes]:
    return {path.removeprefix(str(folder)): storage.read_bytes(path) for path in storage.files_under(folder)}


def fail(*args, **options):
    tf_save(*args, **options)
    raise KeyboardInterrupt


tf_save = tf.saved_model.save


def test_a_version_is_replaced_only_where_that_is_asked_for(exported, tmp_path, monkeypatch):
    export, _, base = exported
    storage.copy_tree(base, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(OccupiedError, match="Export under a new version, or pass `overwrite=True`"):
        export(tmp_path / "1")
    assert contents(tmp_path) == before
    stale = tmp_path / "1" / "of_before"
    stale.touch()
    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "1", overwrite=True)
    assert contents(tmp_path).keys() == before.keys() | {"/1/of_before"}
    monkeypatch.undo()
    export(tmp_path / "1", overwrite=True)
    assert {path.split("/variables/")[0] for path in contents(tmp_path)} == {
        path.split("/variables/")[0] for path in before
    }
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_an_interrupted_export_leaves_nothing(exported, tmp_path, monkeypatch, place):
    export, opened, _ = exported
    base = str(tmp_path) if place == "disk" else f"{MEMORY}/interrupted"
    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        export(storage.join(base, "1"))
    assert storage.entries(base) == storage.entries(base, ".*") == []
    with pytest.raises(NotFoundError, match="`model_dir` must be a SavedModel"):
        opened(base)


def test_an_export_is_written_to_and_read_from_a_uri(exported):
    export, opened, base = exported
    directory = f"{MEMORY}/{base.name}/1"
    assert export(directory) == directory
    with pytest.raises(OccupiedError):
        export(directory)
    local, remote = opened(base), opened(f"{MEMORY}/{base.name}")
    assert remote.directory == directory and remote.spec == local.spec and remote.history == local.history
    requests = list(warmup_requests(base / "1"))
    assert len(requests) == 2 * len(local._module.signatures) and storage.size(storage.join(directory, WARMUP_FILE)) > 0
    for request, inputs in requests:
        signature = request.model_spec.signature_name
        expected, found = (model.run(signature, inputs) for model in (local, remote))
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            if values.dtype == object:
                assert values.tolist() == found[name].tolist()
            else:
                np.testing.assert_allclose(found[name], values, atol=1e-6)
    if storage.is_file(storage.join(base, "1", ITEM_EMBEDDINGS_FILE)):
        ids, vectors = read_item_embeddings(storage.join(directory, ITEM_EMBEDDINGS_FILE))
        assert len(ids) == len(vectors) > 0


def test_one_kind_is_not_taken_for_another(exported, tmp_path):
    _, opened, base = exported
    for other in {SavedTwoTower, SavedCoarse} - {opened}:
        with pytest.raises(NotFoundError, match=f"is not a {other.kind} exported by Clickmill"):
            other(base)
    storage.copy_tree(base, tmp_path)
    storage.delete(tmp_path / "1" / "assets.extra")
    with pytest.raises(NotFoundError, match=f"is not a {opened.kind} exported by Clickmill"):
        opened(tmp_path)
