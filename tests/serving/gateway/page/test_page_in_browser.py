"""The page in a real browser: what a person does there, without a script, by light, in the dark and on a phone."""

import json

import pytest

from tests.evaluation.report import chromium

USER = "u0000001"


@pytest.fixture(scope="module")
def browser():
    with chromium.chromium() as opened:
        yield opened


def test_a_user_is_chosen_and_the_list_is_shown(browser, site):
    with chromium.opened(browser, scripts=False) as page:
        page.goto(site)
        offered = page.locator("#users option").evaluate_all("found => found.map((each) => each.value)")
        assert USER in offered and len(offered) > 10
        page.get_by_label("User").fill(USER)
        page.get_by_label("Items").fill("7")
        page.get_by_role("button", name="Show the list").click()
        assert page.title() == f"{USER} · Clickmill gateway"
        places = page.locator("#list tbody .place").all_inner_texts()
        assert places == [str(place) for place in range(1, 8)]
        probabilities = [float(text) for text in page.locator("#list tbody td:nth-child(2)").all_inner_texts()]
        assert probabilities == sorted(probabilities, reverse=True) and probabilities[-1] > 0
        kept = page.locator("#stages table").first.locator("tbody tr")
        assert [row.split()[-5:-2] for row in kept.all_inner_texts()] == [
            ["60", "60", "100.00%"],
            ["60", "20", "33.33%"],
            ["20", "7", "35.00%"],
        ]
        assert page.locator("#attention tbody tr").count() > 5
        assert page.asked == [f"{site}/", f"{site}/?user={USER}&k=7&release=&beside="]
        page.reload()
        assert page.locator("#list tbody tr").count() == 7, "the address is all that it takes"


def test_a_request_is_pasted(browser, site):
    request = {"user": USER, "k": 3, "context": {"hour": 21}}
    with chromium.opened(browser, scripts=False) as page:
        page.goto(site)
        page.get_by_text("Paste a request", exact=True).click()
        page.get_by_label("Request, as JSON").fill(json.dumps(request))
        page.get_by_role("button", name="Send the request").click()
        assert page.locator("#list tbody tr").count() == 3
        assert json.loads(page.get_by_label("Request, as JSON").input_value()) == request
        assert '"hour": 21' in page.get_by_label("Command").inner_text()


def test_two_releases_stand_side_by_side(browser, site):
    with chromium.opened(browser, scripts=False) as page:
        page.goto(site)
        page.get_by_label("User").fill(USER)
        page.get_by_label("Beside it").first.select_option("stable")
        page.get_by_role("button", name="Show the list").click()
        rows = page.locator("#beside table").first.locator("tbody tr")
        assert rows.count() == 10
        differ = page.locator("#beside tr.differs").count()
        assert 0 < differ < 10, "some places differ, and some do not"
        here = page.locator("#list th.name").evaluate_all(
            "found => found.map((each) => each.childNodes[1].data.trim())"
        )
        left = rows.locator("td:nth-of-type(1)").evaluate_all(
            "found => found.map((each) => each.firstChild.data.trim())"
        )
        assert left == here
        marks = page.locator("#beside .move").all_inner_texts()
        assert any(mark.startswith("▼") for mark in marks) and "new in the list" in marks
        assert page.get_by_label("Beside it").first.input_value() == "stable"


def test_what_is_wrong_is_said_where_it_is_mended(browser, site):
    with chromium.opened(browser, scripts=False) as page:
        page.goto(site)
        page.get_by_text("Paste a request", exact=True).click()
        field = page.get_by_label("Request, as JSON")
        field.fill('{"usr": "u7", "k": "<b>ten</b>"}')
        page.get_by_role("button", name="Send the request").click()
        alert = page.get_by_role("alert")
        assert "`usr` is not a known key. Did you mean `user`?" in alert.inner_text()
        assert "`k` should be a valid integer. Received: '<b>ten</b>'." in alert.inner_text()
        assert (
            field.input_value() == '{"usr": "u7", "k": "<b>ten</b>"}' and field.get_attribute("aria-invalid") == "true"
        )
        assert field.is_visible() and page.locator("#list").count() == 0
        alert.get_by_role("link").click()
        assert page.url.endswith("#field-request")


@pytest.mark.parametrize("dark, phone", [(False, False), (True, False), (False, True), (True, True)])
def test_it_can_be_read_by_light_in_the_dark_and_on_a_phone(browser, site, tmp_path, dark, phone):
    with chromium.opened(browser, dark=dark, phone=phone) as page:
        for name, query in (("forms", ""), ("lists", f"?user={USER}&beside=stable"), ("error", "?user=u1&k=0")):
            page.goto(f"{site}/{query}")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(15, 20, 26)" if dark else "rgb(246, 247, 249)")
            page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
            chromium.open_details(page)
            assert chromium.faint_texts(page) == []
            assert chromium.cut_off(page) <= 0
            unnamed = page.locator("input, select, textarea").evaluate_all(
                "found => found.filter((e) => !e.labels.length)"
            )
            assert unnamed == []
            uncaptioned = page.locator("table").evaluate_all("found => found.filter((each) => !each.caption).length")
            assert uncaptioned == 0
        assert {address.split("/?")[0].rstrip("/") for address in page.asked} == {site}, "nothing is loaded beside"
