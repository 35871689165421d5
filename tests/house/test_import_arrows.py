"""The rooms import one another in one direction only: checked on the syntax trees.

features < evaluation < models < serving < pipeline: a room imports those before it. `clickmill`, the front door, names
modules of all rooms as strings and imports none.
"""

import ast

import pytest

from tests.house.structure import OUTSIDE, ROOMS, ROOT, imported, module_of, python_files, syntax

TENSORFLOW = ("tensorflow", "keras", "tf_keras", "tensorflow_recommenders", "tensorboard")
TFX = ("tfx", "tfx_bsl", "tensorflow_data_validation", "tensorflow_metadata", "tensorflow_transform", "ml_metadata")
FORBIDDEN = {
    "clickmill": TENSORFLOW + TFX + ("apache_beam", "pyarrow", "numpy"),
    "features": TENSORFLOW + TFX,
    "evaluation": TENSORFLOW + TFX + ("apache_beam",),
    "models": TFX + ("apache_beam",),
    "serving": TFX + ("apache_beam",),
    "pipeline": (),
}


def violations(tree: ast.Module, module: str, package: bool = False) -> list[str]:
    """Returns what the file of `module` imports against the arrows."""
    room, problems = module.split(".")[0], []
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ROOMS if room != "clickmill" else ()
    for line, name in imported(tree, module, package):
        top, place = name.split(".")[0], f"{module}:{line}"
        if top in ROOMS and top not in allowed:
            problems.append(f"{place}: {room} may not import {top}")
        if top in FORBIDDEN.get(room, ()):
            problems.append(f"{place}: {room} may not import {name}")
        if (name + ".").startswith("tensorflow.python."):
            problems.append(f"{place}: {name} is private to TensorFlow")
        if top in OUTSIDE and room in FORBIDDEN and top != room:
            problems.append(f"{place}: {room} may not import {top}")
    return problems


@pytest.mark.parametrize("room", (*ROOMS, *OUTSIDE))
def test_a_room_imports_along_the_arrows(room):
    files = python_files(ROOT, room)
    assert files, f"{room} is empty"
    found = (violations(syntax(path), module_of(path, ROOT), path.name == "__init__.py") for path in files)
    assert [problem for problems in found for problem in problems] == []


@pytest.mark.parametrize(
    "module, source, named",
    [
        ("features.encoding.hashing", "import tensorflow as tf", "tensorflow"),
        ("features.encoding.hashing", "def f():\n    from tensorflow.io import gfile", "tensorflow.io"),
        ("features.ingest.reading.units", "import tfx_bsl.public.tfxio", "tfx_bsl"),
        ("features.ingest.reading.units", "from models import autoint", "models"),
        ("features.ingest.reading.units", "from importlib import import_module\nimport_module('tfx.v1')", "tfx.v1"),
        ("features.ingest.reading.units", "from evaluation.metrics import rows", "evaluation"),
        ("features.ingest.reading.units", "import clickmill", "clickmill"),
        ("models.autoint.model", "from serving.ranker import Ranker", "serving"),
        ("models.training.loop", "from tfx import v1", "tfx"),
        ("evaluation.metrics.registry", "import keras", "keras"),
        ("evaluation.metrics.registry", "from models.autoint import model", "models"),
        ("evaluation.metrics.registry", "import apache_beam", "apache_beam"),
        ("serving.export.ranker", "import pipeline.config", "pipeline"),
        ("serving.export.ranker", "import tests.conftest", "tests"),
        ("pipeline.run.run", "from benchmarks.records import spread", "benchmarks"),
        ("pipeline.components.vocabulary", "from tensorflow.python.framework import ops", "private"),
        ("models.sub.layer", "from ...serving import ranker", "serving"),
        ("clickmill", "from features.spec import FeatureSpec", "features"),
        ("clickmill", "import pyarrow", "pyarrow"),
        ("benchmarks.training.sdim", "from tensorflow.python.ops import math_ops", "private"),
    ],
)
def test_a_planted_violation_is_caught(module, source, named):
    problems = violations(ast.parse(source), module)
    assert len(problems) == 1 and named in problems[0]


def test_what_is_allowed_passes():
    assert violations(ast.parse("import tfx.v1\nfrom models.autoint.model import AutoInt\n"), "pipeline.trainer") == []
    assert violations(ast.parse("from . import spec\nfrom features.spec import Spec\n"), "features.x") == []
    assert violations(ast.parse("import tensorflow as tf\nfrom evaluation.gates import Gate\n"), "models.x") == []
    assert violations(ast.parse("from .. import spec\n"), "features.items", package=True) == []
