"""Debian's Chromium driven by Playwright, both installed by `make browser`; a test is skipped where they are not."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FAINT = Path(__file__).with_name("faint_text.js")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
#: No name is looked up and nothing but this machine is asked, by the browser itself neither.
_ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@contextlib.contextmanager
def chromium() -> Iterator:
    """A browser. While it is open its thread has a running event loop: use it in one module of tests at a time."""
    folder = ROOT / "data" / "tools" / "browser" / f"py{sys.version_info.major}{sys.version_info.minor}"
    program = shutil.which("chromium")
    if program is None or not (folder / "installed.lock").exists():
        pytest.skip("no chromium, or no playwright: `make browser` installs both")
    sys.path.append(str(folder))
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=[_ALONE])
            try:
                yield browser
            finally:
                browser.close()
    finally:
        sys.path.remove(str(folder))


@contextlib.contextmanager
def opened(browser, *, dark: bool = False, phone: bool = False, scripts: bool = True) -> Iterator:
    """A page that nothing was opened in yet; its `asked` lists the address of every request it sends."""
    context = browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport=PHONE if phone else DESK,
        is_mobile=phone,
        has_touch=phone,
        java_script_enabled=scripts,
    )
    try:
        page = context.new_page()
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        yield page
    finally:
        context.close()


def open_details(page) -> None:
    """Unfolds everything."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


def faint_texts(page) -> list:
    """Texts that can hardly be read against what lies behind them."""
    return page.evaluate(FAINT.read_text(encoding="utf-8"))


def cut_off(page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
