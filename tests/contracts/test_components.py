"""What every component of `pipeline/components` keeps to; a new one is tested by standing there."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pipeline" / "components"
#: Files that hold what components share. Every other file is a component.
HELPERS = {"__init__", "base", "evaluator", "live_model", "warm_state"}
FILES = {path.stem: path for path in sorted(FOLDER.rglob("*.py")) if path.stem not in HELPERS}
#: Stands where SchemaGen does in a profile with a reviewed schema; tests/pipeline/components/test_log_statistics.py
#: holds when it is cached. WarmTrainer stands for Trainer where a model starts warm.
NOT_IN_THE_RUN = {"ImportSchemaGen", "WarmTrainer"}
#: What a subclass of the class writes.
INHERITED = {
    "Evaluator": ("evaluation", "blessing"),
    "ImportSchemaGen": ("schema",),
    "Pusher": ("pushed_model",),
    "Trainer": ("model", "model_run"),
}
MAX_LINES = 30


def component_name(stem: str) -> str:
    return "".join(part.capitalize() for part in stem.split("_"))


def declared(source: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """Returns the component that a file declares: a function under `@component`, or a class."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.FunctionDef) and node.name == name:
            decorators = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            if any(isinstance(d, ast.Name) and d.id == "component" for d in decorators):
                return node
    return None


def outputs_of(source: str, name: str) -> list[str]:
    """Returns the names of what a component writes."""
    node = declared(source, name)
    if isinstance(node, ast.FunctionDef):
        arguments = node.args.args
        return [a.arg for a in arguments if ast.unparse(a.annotation).startswith("OutputArtifact[")]
    found = []
    for each in ast.walk(ast.parse(source)):
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "OUTPUTS":
            found += [key.value for key in each.value.keys]
    for base in node.bases:
        found += INHERITED.get(ast.unparse(base).split(".")[-1], ())
    return found


def problems_of(source: str, stem: str, docs: str) -> list[str]:
    """Returns what a file of a component does against the contract, as the syntax tree shows it."""
    name = component_name(stem)
    node = declared(source, name)
    if node is None:
        return [f"{stem}.py declares no component `{name}`: a function under @component, or a class"]
    problems = []
    tree = ast.parse(source)
    for each in (tree, node):
        said = ast.get_docstring(each) or ""
        if len(said.split()) < 5 or not said.rstrip().endswith("."):
            problems.append(f"{stem}.py: {'the file' if each is tree else name} is not described in a sentence")
    for each in [*ast.walk(node), *(n for n in ast.walk(tree) if getattr(n, "name", "") == "Do")]:
        if isinstance(each, ast.FunctionDef) and (lines := each.end_lineno - each.lineno + 1) > MAX_LINES:
            problems.append(f"{stem}.py: `{each.name}` has {lines} lines, of at most {MAX_LINES}")
    if name not in docs:
        problems.append(f"docs/ does not mention {name}")
    for output in outputs_of(source, name):
        if f"`{output}`" not in docs:
            problems.append(f"docs/ does not say what `{output}` of {name} is")
    return problems


@pytest.fixture(scope="module")
def docs():
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))


@pytest.mark.parametrize("stem", FILES)
def test_a_component_is_short_and_documented(stem, docs):
    assert problems_of(FILES[stem].read_text(encoding="utf-8"), stem, docs) == []


def test_outputs_are_found():
    found = {stem: outputs_of(path.read_text(encoding="utf-8"), component_name(stem)) for stem, path in FILES.items()}
    assert found["log_ingest"] == ["examples", "behaviors", "dead_letters"]
    assert found["vocabulary"] == ["encoding"] and found["ranking_evaluator"] == ["evaluation", "blessing"]
    assert [stem for stem, outputs in found.items() if not outputs] == ["anomaly_gate"]


@pytest.mark.slow
@pytest.mark.e2e
def test_every_component_ran_once_and_is_cached_on_a_second_run(small_run, small_run_again):
    ids = [run.component for run in small_run.components]
    assert len(set(ids)) == len(ids)
    ran = {component.split(".")[0] for component in ids}
    assert {component_name(stem) for stem in FILES} - NOT_IN_THE_RUN - ran == set(), "take it up in small_run.MODELS"
    states = {run.component: run.state for run in small_run_again.components}
    assert states == dict.fromkeys(ids, "CACHED")


GOOD = '''"""Doubler: doubles the examples, as a test of these tests."""
@component
def Doubler(examples: InputArtifact[Examples], doubled: OutputArtifact[Examples]):
    """Writes every row twice, in the order of the examples."""
'''


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (GOOD, None),
        (GOOD.replace("@component\n", ""), "declares no component"),
        (GOOD.replace("Doubler(", "Tripler("), "declares no component"),
        (GOOD.replace("Writes every row twice, in the order of the examples.", "Doubles."), "Doubler is not described"),
        (GOOD.replace("Doubler: doubles the examples, as a test of these tests.", ""), "the file is not described"),
        (GOOD + "    pass\n" * 30, "`Doubler` has 32 lines"),
        (GOOD.replace("doubled:", "twice:"), "what `twice` of Doubler is"),
    ],
)
def test_a_component_that_keeps_to_less_is_caught(source, named):
    problems = problems_of(source, "doubler", "Doubler writes `doubled`.")
    assert [named in problem for problem in problems] == [True] if named else problems == []


def test_a_component_that_docs_do_not_name_is_caught():
    assert problems_of(GOOD, "doubler", "`doubled`") == ["docs/ does not mention Doubler"]
