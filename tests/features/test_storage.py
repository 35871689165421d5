"""Storage: the same behaviour on a local file system and on one that knows no renames."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from features import storage
from features.arrow import open_parquet, read_parquet, write_parquet
from features.errors import OccupiedError


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path)
    else:
        yield "memory://storage-tests"
        storage.delete("memory://storage-tests")


def make(root: str, *names: str) -> None:
    for name in names:
        storage.write_text(storage.join(root, name), name)


def test_a_path_stands_for_a_file_a_folder_or_a_glob(root):
    make(root, "a/x.csv", "a/b/y.csv", "a/b/.hidden", "c/z.csv", "[1].csv")

    def found(path: str) -> list[str]:
        return [each.removeprefix(root + "/") for each in storage.match(storage.join(root, path))]

    assert found("a/x.csv") == ["a/x.csv"]
    assert found("a") == found("a/") == ["a/b/.hidden", "a/b/y.csv", "a/x.csv"]
    assert found("a/*.csv") == ["a/x.csv"]
    assert found("?/*.csv") == ["a/x.csv", "c/z.csv"]
    assert found("a*") == found("a")
    assert found("**/y.csv") == ["a/b/y.csv"]
    assert found("nothing") == found("nothing/*") == []
    assert found("[1].csv") == ["[1].csv"]  # A file of that name is the file, not a pattern.


def test_relative_paths_stay_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("logs", "x.csv", "b/y.csv")
    assert storage.match("logs/*") == storage.files_under("logs") == ["logs/b/y.csv", "logs/x.csv"]
    assert storage.entries("logs") == ["logs/b", "logs/x.csv"]


def test_what_is_durable_is_on_disk_before_it_appears(tmp_path, monkeypatch):
    """Otherwise a file that appeared may be empty where the power fails."""
    steps: list[str] = []

    def noted(name: str, of: int = 0):
        inner = getattr(os, name)

        def call(*arguments):
            place = arguments[of]
            steps.append(
                f"{name} {os.path.basename(os.readlink(f'/proc/self/fd/{place}') if name == 'fsync' else place)}"
            )
            return inner(*arguments)

        monkeypatch.setattr(os, name, call)

    noted("fsync")
    noted("replace", of=1)
    storage.write_text(tmp_path / "a.json", "{}", durable=True)
    assert steps[0].startswith("fsync .a.json.") and steps[1:] == ["replace a.json", f"fsync {tmp_path.name}"]
    steps.clear()
    with storage.publishing(tmp_path / "model", durable=True) as local:
        make(local, "saved_model.pb", "variables/variables.index")
        steps.clear()
    assert sorted(steps[:3]) == ["fsync saved_model.pb", "fsync variables", "fsync variables.index"]
    assert steps[3].startswith("fsync .model.") and steps[4:] == ["replace model", f"fsync {tmp_path.name}"]
    steps.clear()
    storage.write_text(tmp_path / "b.json", "{}")
    assert steps == ["replace b.json"]


def test_what_fails_leaves_what_was_there(root):
    path = storage.join(root, "folder", "file.txt")
    storage.write_text(path, "first")
    with pytest.raises(KeyError), storage.writing(path) as file:
        file.write(b"second")
        raise KeyError
    assert storage.read_text(path) == "first" and storage.files_under(root) == [path]
    assert storage.size(path) == 5 and storage.modified(path) > 1_700_000_000


def test_folders_appear_whole(root):
    folder = storage.join(root, "made")
    with storage.publishing(folder) as local:
        make(local, "a/x", "manifest")
        assert not storage.exists(folder)
    assert [path.removeprefix(folder) for path in storage.files_under(folder)] == ["/a/x", "/manifest"]
    with pytest.raises(OccupiedError, match="not empty"), storage.publishing(folder):
        pass
    with pytest.raises(KeyError), storage.publishing(folder, replace=True) as local:
        raise KeyError
    assert len(storage.files_under(folder)) == 2
    storage.write_text(file := storage.join(root, "file"), "kept")
    with pytest.raises(OccupiedError, match="is a file"), storage.publishing(file, replace=True):
        pass
    assert storage.read_text(file) == "kept"
    storage.delete(file)
    with storage.publishing(folder, replace=True) as local:
        make(local, "b")
    assert storage.files_under(folder) == [storage.join(folder, "b")]
    assert storage.entries(root) == [folder]


def test_copies_stand_on_their_own(root, tmp_path):
    make(root, "from/a/x", "from/y")
    for target in (storage.join(root, "to"), str(tmp_path / "elsewhere"), "memory://storage-tests/elsewhere"):
        storage.copy_tree(storage.join(root, "from"), target)
        storage.write_text(storage.join(target, "y"), "changed")
        assert storage.read_text(storage.join(target, "a", "x")) == "from/a/x"
        storage.copy(storage.join(root, "from/y"), storage.join(target, "y"))
        assert storage.read_text(storage.join(target, "y")) == "from/y"
    storage.delete(storage.join(root, "from"))
    storage.delete(storage.join(root, "from"))
    assert storage.read_text(storage.join(root, "to", "y")) == "from/y"
    storage.delete("memory://storage-tests")


def test_parquet_everywhere(root):
    table = pa.table({"a": range(100), "b": [["x"], []] * 50})
    path = storage.join(root, "t", "table.parquet")
    write_parquet(table, path, row_group_size=10)
    assert read_parquet(path).equals(table) and read_parquet(path, ["b"]).column_names == ["b"]
    with open_parquet(path) as file:
        assert file.num_row_groups == 10
    with storage.local_copy(path) as local:
        assert os.path.isfile(local)
