"""What the page answers: to whom, with which status, with nothing that a caller wrote standing as HTML."""

import hashlib
import re
import urllib.parse

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.release.registry import Releases
from tests.evaluation.report.page_reader import Page
from tests.serving.gateway.page import page_case

USER = "u0000001"
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7*7 }}"


def digest(*folders):
    """Of all files below folders but LMDB's own lock files."""
    found = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        if path.name != "lock.mdb":
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


def post(site, text, **fields):
    return httpx.post(f"{site}/", data={"request": text, **fields}, timeout=120)


def alert(answer):
    return re.search(r'role="alert".*?</div>', answer.text, re.S)[0]


def test_looking_changes_nothing(site, page_root, exposures):
    before = digest(page_root)
    for query in ("", f"?user={USER}", f"?user={USER}&beside=stable", "?user=nobody"):
        assert httpx.get(f"{site}/{query}", timeout=120).status_code == 200
    assert post(site, f'{{"user": "{USER}"}}').status_code == 200
    assert digest(page_root) == before
    assert not exposures.exists() or digest(exposures) == hashlib.sha256().hexdigest()


def test_a_list_that_a_program_asks_for_is_an_exposure(site, exposures):
    """So that the test above can fail."""
    httpx.post(f"{site}/v1/recommend", json={"user": USER}, timeout=120).raise_for_status()
    assert exposures.exists()


def test_the_page_may_load_and_run_nothing(site):
    answer = httpx.get(f"{site}/?user={USER}", timeout=120)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'" and "script-src" not in policy
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in answer.text and "@import" not in answer.text and "url(" not in answer.text
    targets = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
    assert targets and all(target.startswith(("/", "#", "data:,")) and target[:2] != "//" for target in targets)


@pytest.mark.parametrize("field", ["user", "k", "release", "beside"])
def test_what_is_typed_is_text(site, field):
    query = urllib.parse.urlencode({"user": USER, "k": "3", field: HOSTILE})
    answer = httpx.get(f"{site}/?{query}", timeout=120)
    assert (answer.status_code == 200) == (field == "user") and answer.status_code < 504
    assert (
        "<script" not in answer.text
        and "<img" not in answer.text
        and "49" not in re.findall(r"&#39;(\d+)", answer.text)
    )
    assert "&lt;script&gt;" in answer.text


@pytest.mark.parametrize(
    "text, status, said",
    [
        ("", 400, "Nothing was pasted."),
        ('{"user": "u1",', 400, "The text is not JSON: line 1, column 15"),
        ("[1, 2]", 400, "A request is an object"),
        ('{"k": NaN}', 400, "`NaN` is no JSON"),
        ('{"k": 0}', 400, "`k` should be greater than or equal to 1. Received: 0."),
        ('{"user": "\\ud800"}', 400, "`user` should be a valid string"),
        ('{"user": {"a": 1}}', 400, "Received: {&#39;a&#39;: 1}."),
        ("[" * 100_000, 400, "nested too deep"),
        ('{"user": "u1", "context": {"huor": 3}}', 400, "Did you mean `hour`?"),
        ('{"user": "u1", "release": "nightly"}', 404, "nightly"),
        ('{"user": "u1", "candidates": [{"item_id": true}]}', 400, "`item_id` must be"),
        (HOSTILE, 400, "The text is not JSON"),
    ],
)
def test_a_pasted_request_that_cannot_be_used(site, text, status, said):
    answer = post(site, text)
    assert answer.status_code == status
    assert said in alert(answer) and "<script" not in answer.text
    pasted = next(a for tag, a in Page(answer.text).tags if tag == "textarea")
    assert pasted["aria-invalid"] == "true" and pasted["aria-describedby"] == "error"


def test_a_list_stands_though_the_other_release_gives_none(site):
    answer = httpx.get(f"{site}/?user={USER}&k=4&beside=nightly", timeout=120)
    assert answer.status_code == 404
    assert "The other release gave no answer" in alert(answer)
    assert len(re.findall(r'class="place"', answer.text)) == 4 and 'id="beside"' not in answer.text


def test_a_caller_s_candidates_are_ranked(site, page_root):
    answer = post(site, '{"user": "u0000001", "candidates": [{"item_id": 10000426}, {"item_id": 10000405}]}')
    assert answer.status_code == 200
    assert len(re.findall(r'class="place"', answer.text)) == 2 and "/v1/rank" in answer.text


def test_an_unknown_user_is_told_apart(site):
    assert "unknown_user" in httpx.get(f"{site}/?user=nobody", timeout=120).text
    assert "unknown_user" not in httpx.get(f"{site}/?user={USER}", timeout=120).text


def test_a_gateway_that_may_not_name_releases_says_so(page_root, page_server, on_loop):
    with page_case.on_a_port(page_root, page_server, on_loop, allow_releases=False) as site:
        answer = httpx.get(f"{site}/?user={USER}", timeout=120)
        assert answer.status_code == 200 and answer.text.count(" disabled") == 3
        refused = httpx.get(f"{site}/?user={USER}&beside=stable", timeout=120)
        assert refused.status_code == 400 and "allow_releases" in alert(refused)


def test_a_gateway_without_a_release_shows_why(tmp_path, page_server, on_loop):
    (tmp_path / "empty").mkdir()
    with page_case.on_a_port(tmp_path / "empty", page_server, on_loop) as site:
        answer = httpx.get(site, timeout=120)
        assert answer.status_code == 200 and "It cannot answer yet." in answer.text and "clickmill run" in answer.text
        failed = httpx.get(f"{site}/?user=u1", timeout=120)
        assert failed.status_code == 503 and "There is no answer" in alert(failed)


def test_a_variant_and_its_policy_are_shown(page_root, page_server, on_loop, tmp_path):
    stable = Releases(page_root).labelled("stable").id
    (tmp_path / "experiments.yaml").write_text(
        "layers:\n- name: ranking\n  salt: one\n  variants:\n"
        "  - {name: no_coarse, share: 10000, release: stable, exploration: {kind: plackett_luce}}\n"
    )
    values = {"experiments": str(tmp_path / "experiments.yaml")}
    with page_case.on_a_port(page_root, page_server, on_loop, **values) as site:
        answer = httpx.get(f"{site}/?user={USER}", timeout=120)
        assert answer.status_code == 200
        assert "no_coarse" in answer.text and "Propensity" in answer.text and "plackett_luce" in answer.text
        assert f'<dd class="id">{stable}' in answer.text


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["user", "k", "beside", "request"]), st.text(max_size=30)), st.booleans())
def test_whatever_is_typed_is_answered_in_words(site, fields, pasted):
    """No text makes a page without words, or with a tag of its own."""
    text = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
    answer = post(site, text.pop("request", ""), **text) if pasted else httpx.get(f"{site}/", params=text, timeout=120)
    assert answer.status_code in (200, 400, 404)
    assert answer.text.startswith("<!DOCTYPE html>") and answer.text.rstrip().endswith("</html>")
    assert (answer.status_code == 200) == ('role="alert"' not in answer.text)
