"""The ranker of docs/guides/add-a-model.md, as the guide has it, in a package outside the repository."""

import re
from pathlib import Path

import yaml

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "add-a-model.md"


def blocks(language: str) -> list[str]:
    """The code of the guide in a language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)


def write_package(folder: Path) -> Path:
    """Writes `my_shop/rankers.py` and `my_shop/kinds.py`; returns the folder that belongs on PYTHONPATH."""
    package = folder / "my_shop"
    package.mkdir(parents=True)
    ranker, row = blocks("python")
    (package / "__init__.py").write_text("")
    (package / "rankers.py").write_text(ranker, encoding="utf-8")
    (package / "kinds.py").write_text(row, encoding="utf-8")
    (package / "config.py").write_text("from my_shop.rankers import DCN\n\nDcnConfig = DCN.Config\n")
    return folder


def guide_models(number: int = 0) -> dict:
    """The `models` of one of the guide's profiles."""
    return yaml.safe_load(blocks("yaml")[number])["models"]
