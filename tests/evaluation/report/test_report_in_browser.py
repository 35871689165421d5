"""The report in a real browser: nothing is cut off, everything can be read, nothing is loaded."""

import pytest

from evaluation.report.page import build_report
from tests.builders.report_example import report_data
from tests.evaluation.report import chromium


@pytest.fixture(scope="module")
def browser():
    with chromium.chromium() as opened:
        yield opened


@pytest.mark.parametrize("dark, phone", [(False, False), (True, False), (False, True)])
def test_it_can_be_read_by_light_in_the_dark_and_on_a_phone(browser, tmp_path, dark, phone):
    address = f"file://{build_report(report_data(), tmp_path).html}"
    with chromium.opened(browser, dark=dark, phone=phone) as page:
        page.goto(address)
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        chromium.open_details(page)
        assert chromium.faint_texts(page) == []
        assert chromium.cut_off(page) <= 0
        # Titles of columns that may break, do: none reaches into the next.
        crossing = page.locator("thead th").evaluate_all("found => found.filter((e) => e.scrollWidth > e.clientWidth)")
        assert crossing == []
        assert page.asked == [address]
