"""What the project does in one place only: files of data are written by one module, and none names this machine."""

import ast
import re
import subprocess

import pytest

from tests.house.structure import ROOMS, ROOT, module_of, python_files, syntax

#: The storage module itself, and LMDB's store, which needs local files and links.
STORAGE = ("features.storage", "serving.user_stores.")
OTHER_WAYS = {"os.replace", "os.rename", "os.renames"}

#: Paths of a machine and hosts of a package index; nothing that is tracked may hold one.
MACHINE = re.compile(
    r"(?<![\w.$}/-])/(?:work|root|home|Users|mnt)/\w"
    r"|(?:index-url|index_url|INDEX_URL)['\"]?\s*[= ]\s*['\"]?https?://"
    r"|https?://(?!127\.0\.0\.1|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|https?://[\w.-]+\.(?:internal|local|lan|corp)\b"
)


def own_writes(tree: ast.Module, module: str) -> list[str]:
    """Returns where a file opens, renames or tells apart paths of data by itself."""
    if module.startswith(STORAGE):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "open" or name in OTHER_WAYS:
                found.append(f"{module}:{node.lineno}: {name}(")
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In) and ast.unparse(node.left) == "'://'":
            found.append(f'{module}:{node.lineno}: "://" in')
    return found


def machine_names(text: str) -> list[str]:
    return [match.group() for match in MACHINE.finditer(text)]


def test_data_is_written_by_the_storage_module():
    files = python_files(ROOT, *ROOMS, "clickmill", "benchmarks")
    assert [place for path in files for place in own_writes(syntax(path), module_of(path, ROOT))] == []


@pytest.mark.parametrize(
    "source, named",
    [
        ("import os\nos.replace('a', 'b')", "os.replace("),
        ("import os\ndef f():\n    os.rename('a', 'b')", "os.rename("),
        ("with open('data.json') as file: pass", "open("),
        ("local = '://' in path", '"://" in'),
    ],
)
def test_a_planted_write_is_caught(source, named):
    (found,) = own_writes(ast.parse(source), "features.ingest.joining.write")
    assert found.endswith(named)
    assert own_writes(ast.parse(source), "serving.user_stores.builds") == []
    assert own_writes(ast.parse(source), "features.storage") == []


def test_other_opens_are_left_alone():
    assert own_writes(ast.parse("lmdb.open(p)\nstorage.open_read(p)\nos.open(p)\n'a' in p"), "features.x") == []


def test_no_tracked_file_names_a_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path != ROOT / "tests/house/test_one_of_each.py":
            hits = machine_names(path.read_text(encoding="utf-8", errors="replace"))
            if hits:
                found[name] = hits
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["cd /work/main", '"/home/anna/x"', "--index-url https://pypi.example.org/simple", "http://10.1.2.3:80/simple"],
)
def test_a_planted_machine_name_is_caught(text):
    assert machine_names(text)


@pytest.mark.parametrize(
    "text", ["runs/work/x", "$HOME/home/x", "{root}/work/b", "https://files.grouplens.org/datasets"]
)
def test_other_paths_are_left_alone(text):
    assert machine_names(text) == []
