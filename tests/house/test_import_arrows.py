"""The rooms import one another in one direction only, and stay readable: checked on the syntax trees.

features < evaluation < models < serving < pipeline: a room imports itself and what stands before it
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("features", "evaluation", "models", "serving", "pipeline")
MAX_LINES = 400

MAY_IMPORT = {room: set(ROOMS[: place + 1]) for place, room in enumerate(ROOMS)}
TENSORFLOW = ("tensorflow", "keras", "tf_keras")
TFX = ("tfx", "tfx_bsl", "tensorflow_data_validation", "tensorflow_metadata", "tensorflow_transform", "ml_metadata")
FORBIDDEN = {
    "features": TENSORFLOW + TFX + ("tensorflow_recommenders",),
    "evaluation": TENSORFLOW + TFX + ("tensorflow_recommenders", "apache_beam"),
    "models": TFX + ("apache_beam",),
    "serving": TFX + ("apache_beam",),
    "pipeline": (),
}


def imported_modules(source: str, module: str) -> list[tuple[int, str]]:
    """Returns (line, dotted name) of all imports in `source`, at any depth; relative ones resolved from `module`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join(package + ([node.module] if node.module else []))
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


def violations(source: str, module: str) -> list[str]:
    """Returns what `source`, as the file of `module`, imports against the arrows."""
    room = module.split(".")[0]
    problems = []
    for line, name in imported_modules(source, module):
        top = name.split(".")[0]
        if top in ROOMS and top not in MAY_IMPORT.get(room, set(ROOMS)):
            problems.append(f"{module}:{line}: {room} may not import {top}")
        if top in FORBIDDEN.get(room, ()):
            problems.append(f"{module}:{line}: {room} may not import {name}")
        if (name + ".").startswith("tensorflow.python."):
            problems.append(f"{module}:{line}: {name} is private to TensorFlow")
        if top in ("tests", "benchmarks") and room in ROOMS:
            problems.append(f"{module}:{line}: {room} may not import {top}")
    return problems


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_along_the_arrows(room):
    files = python_files(room)
    assert files, f"the room {room} is empty"
    assert [problem for path in files for problem in violations(path.read_text("utf-8"), module_of(path))] == []


def test_no_private_tensorflow_in_tests_and_benchmarks():
    files = python_files("tests", "benchmarks")
    assert [problem for path in files for problem in violations(path.read_text("utf-8"), module_of(path))] == []


def test_files_stay_small():
    files = [*python_files(*ROOMS, "tests", "benchmarks"), ROOT / "setup.py"]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize(
    "module, source, named",
    [
        ("features.encoding.hashing", "import tensorflow as tf", "tensorflow"),
        ("features.encoding.hashing", "def f():\n    from tensorflow.io import gfile", "tensorflow.io"),
        ("features.ingest.readers", "import tfx_bsl.public.tfxio", "tfx_bsl"),
        ("features.ingest.readers", "from models import autoint", "models"),
        ("features.ingest.readers", "from importlib import import_module\nimport_module('tfx.v1')", "tfx.v1"),
        ("models.autoint", "from serving.ranker import Ranker", "serving"),
        ("models.training.loop", "from tfx import v1", "tfx"),
        ("evaluation.metrics.registry", "import keras", "keras"),
        ("evaluation.metrics.registry", "from models.autoint import AutoInt", "models"),
        ("serving.export.ranker", "import pipeline.config", "pipeline"),
        ("serving.export.ranker", "import tests.conftest", "tests"),
        ("pipeline.components.vocabulary", "from tensorflow.python.framework import ops", "private"),
        ("models.sub.layer", "from ...serving import ranker", "serving"),
    ],
)
def test_a_planted_violation_is_caught(module, source, named):
    problems = violations(source, module)
    assert len(problems) == 1 and named in problems[0]


def test_what_is_allowed_passes():
    assert violations("import tfx.v1\nfrom models.autoint import AutoInt\n", "pipeline.trainer") == []
    assert violations("from . import spec\nfrom features.encoding.hashing import hash64\n", "features.x") == []
    assert violations("import tensorflow as tf\nfrom features.spec import load_spec\n", "models.autoint") == []
