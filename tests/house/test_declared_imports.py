"""Every package that is imported is declared in setup.py: in `dev` where tests and benchmarks alone import it."""

import ast
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("clickmill", "features", "models", "evaluation", "serving", "pipeline")
OWN = {*ROOMS, "benchmarks", "tests", "tfx_config"}

# Distributions whose name is not that of their module, but for - and _.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "pyyaml",
}
# Of environments that the benchmarks make for rivals (benchmarks/throughput/environments.py), or done without.
OF_RIVALS = {"deepctr", "estimators", "fuxictr", "obp", "scope-rl", "torch", "worker"}
# Of the tests that look at pages in a browser, in a folder of its own (.ci/browser).
OF_BROWSER = {"playwright"}
# Of an environment of its own, in which a DAG file is read (.ci/airflow).
OF_AIRFLOW = {"airflow"}
# Declared though nothing imports them.
UNIMPORTED = {
    "dill",  # TFX 1.16 does
    "setuptools",  # the installation's
    "tensorboard",  # reads what training writes
    "tf-keras",  # TensorFlow does, for TF_USE_LEGACY_KERAS
    *("mypy", "pre-commit", "ruff", "types-pyyaml"),  # tools
}


def imported(source: str) -> set[str]:
    """Returns the distributions that a file imports, at any depth; the standard library's and our own left out."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if function in ("import_module", "__import__", "importorskip") and isinstance(node.args[0].value, str):
                names.add(node.args[0].value)
    tops = {name.split(".")[0] for name in names} - OWN - set(sys.stdlib_module_names)
    return {DISTRIBUTIONS.get(top, top).replace("_", "-") for top in tops}


def imported_by(*folders: str) -> set[str]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return set().union(*(imported(path.read_text(encoding="utf-8")) for path in files))


@pytest.fixture(scope="module")
def declared():
    """Names of `install_requires` and of the extra `dev`, by what setup.py hands to setuptools."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    found = {}
    before = [node for node in tree.body if isinstance(node, (ast.Assign, ast.ImportFrom))]
    call = next(node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)).value
    exec(compile(ast.Module(before, []), "setup.py", "exec"), found)
    values = {k.arg: k.value for k in call.keywords if k.arg in ("install_requires", "extras_require")}
    install, extras = (eval(compile(ast.Expression(value), "setup.py", "eval"), found) for value in values.values())
    return {
        "all": [Requirement(line) for line in install],
        "dev": [Requirement(line) for line in extras["dev"]],
    }


def names(requirements) -> set[str]:
    return {requirement.name.lower().replace("_", "-") for requirement in requirements}


def test_the_rooms_import_what_is_declared(declared):
    assert imported_by(*ROOMS) - names(declared["all"]) == set()


def test_tests_and_benchmarks_import_what_is_declared_there(declared):
    extra = imported_by("tests", "benchmarks") - names(declared["all"]) - OF_RIVALS - OF_BROWSER - OF_AIRFLOW
    assert extra - names(declared["dev"]) == set()


def test_nothing_is_declared_that_is_not_imported(declared):
    assert names(declared["all"]) - imported_by(*ROOMS) - UNIMPORTED == set()
    assert names(declared["dev"]) - imported_by("tests", "benchmarks") - UNIMPORTED == set()


@pytest.mark.parametrize("python, lock", [("3.10", "py310-tfx116"), ("3.13", "py313-tfx121")])
def test_each_lock_pins_what_is_declared_for_its_python(declared, python, lock):
    lines = (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8").splitlines()
    pins = {pin.name: pin.specifier for line in lines if "==" in line for pin in [Requirement(line)]}
    wanted = [each for part in declared.values() for each in part]
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate({"python_version": python})]
    assert len(wanted) < len(pins)
    for each in wanted:
        (version,) = pins[each.name.lower()]
        assert each.specifier.contains(version.version), f"{lock}: {each} is pinned as {version}"
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_an_import_is_found_wherever_it_stands():
    source = "import a.b, os, tests.builders\ndef f():\n    from c_d import e\n    importlib.import_module('yaml.x')"
    assert imported(source) == {"a", "c-d", "pyyaml"}
