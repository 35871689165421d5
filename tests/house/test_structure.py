"""The plan of the house: no circles, folders that can be read at a glance, one name for one thing, small files."""

import pytest

from tests.house import structure

README_LINES = 120


def plant(root, files: dict[str, str]):
    """Writes files of a repository; every folder on the way is a package."""
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents:
            if folder.name and path.suffix == ".py":
                (root / folder / "__init__.py").touch()
        path.write_text(source)
    return root


def test_no_module_imports_itself_on_a_way_round():
    assert structure.circles(structure.import_graph()) == []


def test_the_floors_are_a_line():
    assert structure.upward_arrows(structure.import_graph()) == []


def test_a_folder_can_be_read_at_a_glance():
    assert structure.crowded() == {}


def test_no_file_name_stands_in_two_rooms():
    assert structure.shared_file_names() == {}


def test_no_class_name_is_given_twice():
    assert structure.repeated_classes() == {}


def test_files_stay_small():
    assert structure.long_files() == {}


def test_the_readme_is_short():
    assert structure.count_lines(structure.ROOT / "README.md") < README_LINES


@pytest.mark.parametrize(
    "files, circle",
    [
        (
            {"features/a.py": "from features import b", "features/b.py": "import features.a"},
            ["features.a", "features.b"],
        ),
        (
            {
                "serving/a.py": "def f():\n    from serving.b import B",
                "serving/b.py": "from .sub import c",
                "serving/sub/c.py": "from ..a import A",
            },
            ["serving.a", "serving.b", "serving.sub.c"],
        ),
    ],
)
def test_a_planted_circle_is_caught(tmp_path, files, circle):
    files["features/apart.py"] = "import features.spec"
    assert structure.circles(structure.import_graph(plant(tmp_path, files))) == [circle]


def test_a_planted_arrow_upwards_is_caught(tmp_path):
    files = {"features/a.py": "import models.b", "models/b.py": "import features.c", "features/c.py": ""}
    files["evaluation/d.py"] = "def f():\n    from clickmill import train"
    files["clickmill/__init__.py"] = ""
    graph = structure.import_graph(plant(tmp_path, files))
    assert structure.upward_arrows(graph) == ["evaluation.d → clickmill", "features.a → models.b"]


def test_a_planted_crowd_is_caught_and_what_nobody_sees_is_not_counted(tmp_path):
    files = {f"evaluation/metrics/m{number}.py": "" for number in range(13)}
    files |= {"evaluation/metrics/.hidden": "", "evaluation/metrics/__pycache__/m.pyc": ""}
    plant(tmp_path, files)
    (tmp_path / "evaluation" / "metrics" / "empty").mkdir()
    assert structure.crowded(tmp_path) == {}
    plant(tmp_path, {"evaluation/metrics/page.html": ""})
    assert structure.crowded(tmp_path) == {"evaluation/metrics": 14}


def test_planted_names_are_caught(tmp_path):
    files = {"features/rows.py": "class Rows: pass", "features/x/rows.py": "", "models/a/config.py": ""}
    files |= {"models/b/config.py": "", "serving/config.py": ""}
    plant(tmp_path, files)
    assert structure.shared_file_names(tmp_path) == {} and structure.repeated_classes(tmp_path) == {}
    plant(tmp_path, {"serving/rows.py": "def f():\n    class Rows: pass"})
    assert list(structure.shared_file_names(tmp_path)) == ["rows"]
    assert structure.repeated_classes(tmp_path) == {"Rows": ["features/rows.py", "serving/rows.py"]}


def test_a_planted_long_file_is_caught(tmp_path):
    plant(tmp_path, {"tests/test_a.py": "\n" * 400, "benchmarks/b.py": "\n" * 401})
    assert structure.long_files(tmp_path) == {"benchmarks/b.py": 401}


def test_the_map_ends_with_a_summary():
    lines = "\n".join(structure.draw()).splitlines()
    assert lines[-6] == "floors: features < evaluation < models < serving < pipeline"
    names = [line.split(":")[0] for line in lines[-6:]]
    assert names[1:4] == ["arrows upwards", "circles", "folders over 13 entries"]
    assert names[4:] == ["file names in two rooms", "Python lines outside tests"]
    assert any(line.startswith("  models → ") for line in lines)
