"""README's figures are the ones that the benchmarks wrote."""

from benchmarks.readme_table import BEGIN, END, ROOT, table


def test_readme_holds_the_figures_of_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    assert shown == table(), "run: python -m benchmarks.readme_table"
    assert "impressions/s" in shown
