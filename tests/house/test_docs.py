"""The documentation is true where that can be checked: links, named files, generated pages, README's figures."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.house import cli_reference, config_reference
from tests.house.structure import OUTSIDE, ROOMS, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISION_LINES = 60


def broken_links(text: str, folder: Path) -> list[str]:
    """Returns the relative links of a page that lead nowhere."""
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text)
    return [target for target in targets if not (folder / target).exists()]


def missing_files(text: str, root: Path = ROOT) -> list[str]:
    """Returns the files and folders that a text names by a path from the repository's root and that are not there."""
    tops = "|".join((*ROOMS, *OUTSIDE, "docs", "tfx_config"))
    text = re.sub(r"\]\([^)]*\)", "", text)  # links start at the page
    named = re.findall(rf"(?<![\w./-])(?:{tops})/[\w./-]*[\w/]", text)
    return [name for name in named if not re.search("NAME|SUBJECT", name) and not (root / name).exists()]


def modules_named(text: str) -> list[str]:
    """Returns the dotted names of modules, or of what stands in them, that a page names in backquotes or imports.

    In backquotes `models.…` and `evaluation.…` may be keys of the configuration: only their classes are names.
    """
    rooms = "|".join(ROOMS)
    imported = re.findall(rf"^(?:from|import) ((?:{rooms})(?:\.\w+)+)", text, flags=re.MULTILINE)
    quoted = re.findall(rf"`((?:{rooms})(?:\.\w+){{2,}})", text)  # `pipeline.log` is a file
    keys = ("models.", "evaluation.")
    return imported + [name for name in quoted if not name.startswith(keys) or name.split(".")[-1][0].isupper()]


def is_there(dotted: str, root: Path = ROOT) -> bool:
    path = root / dotted.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, name = path.parent.with_suffix(".py"), path.name
    return (
        module.is_file()
        and re.search(rf"^(?:def|class) {name}\b|^{name}\b", module.read_text(), re.MULTILINE) is not None
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    assert broken_links(text, page.parent) == []
    assert missing_files(text) == []
    assert [name for name in modules_named(text) if not is_there(name)] == []


def test_pages_of_the_documentation_that_code_names_are_there():
    files = subprocess.run(
        ["git", "grep", "-lE", r"docs/[a-z_/]+\.md", "--", "*.py", "*.yaml", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    found = {name: re.findall(r"docs/[\w/-]+\.md", (ROOT / name).read_text("utf-8")) for name in files}
    missing = {name: [page for page in pages if not (ROOT / page).exists()] for name, pages in found.items()}
    own = "tests/house/test_docs.py"
    assert {name: pages for name, pages in missing.items() if pages and name != own} == {}


def test_every_page_is_reached_from_the_index():
    seen, queue = set(), [ROOT / "docs" / "index.md"]
    while queue:
        page = queue.pop()
        if page not in seen and page.exists():
            seen.add(page)
            links = re.findall(r"\]\((?!https?://|#)([^)#\s]+\.md)", page.read_text("utf-8"))
            queue += [(page.parent / link).resolve() for link in links]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - seen == set()


@pytest.mark.parametrize("reference", [config_reference, cli_reference], ids=["config", "cli"])
def test_generated_pages_are_as_generated(reference):
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: make docs"


def test_the_configuration_page_describes_every_class_once():
    text = config_reference.page()
    headings = re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)
    assert len(headings) == len(set(headings)) > 20
    for key in ("max_bad_row_fraction", "num_layers", "mask_rate", "learning_rate", "min_ndcg_kept", "precision"):
        assert f"| `{key}` |" in text
    links = set(re.findall(r"\(#(\w+)\)", text))
    assert links <= {heading.lower() for heading in headings}


def test_every_key_is_described():
    classes = [model for models in config_reference.sections().values() for model in models]
    missing = {each.__name__: set(each.model_fields) - set(config_reference.described(each)) for each in classes}
    assert {name: keys for name, keys in missing.items() if keys} == {}


def test_the_command_line_page_names_every_command():
    names = [name for name, _ in cli_reference.commands()]
    assert {"clickmill run", "clickmill recommend", "clickmill bse build"} <= set(names)
    assert all(f"\n## {name}\n" in cli_reference.PAGE.read_text("utf-8") for name in names)


def test_the_figures_of_the_readme_are_those_of_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Figures")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and line != "| | |"]
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(rows) == 8 and [row for row in rows if f"\n{row.rstrip('|')}" not in results] == []


def test_decisions_are_numbered_pages_of_one_form():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1)) and len(pages) >= 7
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences", "Decided against"))
        assert len(text.splitlines()) < DECISION_LINES


def test_planted_faults_are_caught(tmp_path):
    (tmp_path / "there.md").touch()
    assert broken_links("[a](there.md#x) [b](gone.md) [c](https://x.org/y.md)", tmp_path) == ["gone.md"]
    named = "`features/spec.py`, `models/NAME/` and `features/gone.py`, not runs/features/x.py"
    assert missing_files(named) == ["features/gone.py"]
    text = "`features.spec.FeatureSpec` `features.spec.load_spec`\nfrom serving.gone import x\n"
    assert modules_named(text) == ["serving.gone", "features.spec.FeatureSpec", "features.spec.load_spec"]
    assert modules_named("`models.retrieval.lists` `models.autoint.model.AutoInt`") == ["models.autoint.model.AutoInt"]
    assert is_there("features.spec.load_spec") and is_there("features.items") and not is_there("features.spec.gone")
