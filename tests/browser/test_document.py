"""The browser sends the ethics document of an institution to the real object store."""

import pytest
from playwright.sync_api import expect

from portal import storage
from tests.contributing import sha256_hex

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CONTENT = b"%PDF-1.7 approved"


@pytest.fixture
def page(page_for, institution, investigator):
    """The page of the institution, opened by its principal investigator."""
    return page_for(investigator, f"/institutions/{institution.slug}/edit/")


def choose(page) -> None:
    document = {"name": "approval.pdf", "mimeType": "application/pdf", "buffer": CONTENT}
    page.locator("#document-file").set_input_files(document)


def test_the_document_is_hashed_here_and_arrives(page, institution):
    choose(page)
    expect(page.get_by_role("link", name="Download version 1")).to_be_visible()
    document = institution.documents.get()
    assert (document.state, document.sha256) == ("stored", sha256_hex(CONTENT))
    assert storage.get(storage.QUARANTINE, document.key) == CONTENT


def test_who_is_signed_out_is_told_so_and_sends_it_once_signed_in_again(page, institution):
    cookies = page.context.cookies()
    page.context.clear_cookies(name="sessionid")
    choose(page)
    expect(page.locator('[data-part="problem"]')).to_contain_text("You were signed out, so the document was not sent.")
    assert institution.documents.count() == 0
    page.context.add_cookies(cookies)
    choose(page)
    expect(page.get_by_role("link", name="Download version 1")).to_be_visible()
