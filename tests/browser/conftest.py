"""Chromium, and the whole portal as `make run` starts it."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from portal import storage
from portal.accounts.models import User
from tests.chromium import chromium
from tests.running_portal import RunningPortal, running_portal

# How long a condition is waited for before its absence is a failure: Playwright's own 5 s are short on a busy machine.
WAIT_MS = 30_000


@pytest.fixture(scope="package")
def portal() -> Iterator[RunningPortal]:
    """It ends with the browser tests, which come first: idle beside the others it would take their time."""
    with running_portal() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """
    Chromium, which waits as long as a busy machine needs.

    It ends with its module: Playwright's event loop would stay in this thread, where Channels cannot work beside it.
    """
    # Playwright's sync API runs an event loop in this thread; Django must not take it for an async view.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with chromium() as started:
        expect.set_options(timeout=WAIT_MS)
        yield started


@pytest.fixture
def new_page(browser, portal):
    """Return a function that opens a page for another person, in a browser profile of its own."""
    contexts = []

    def open_page() -> Page:
        context = browser.new_context(base_url=portal.url, viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page_for(browser, live_server, settings, sign_in):
    """Return a function that opens an address of this process's own site for somebody who is signed in."""
    settings.PORTAL_URL = live_server.url
    storage.ensure_buckets()  # the store lets this site's pages PUT
    contexts = []

    def open_page(person: User, path: str) -> Page:
        context = browser.new_context(base_url=live_server.url)
        contexts.append(context)
        session = sign_in(person).cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the browser tests in one process: each process would start a portal of its own."""
    for item in items:
        if "browser" in item.keywords:
            item.add_marker(pytest.mark.xdist_group("browser"))
