"""A long form outlives what happens around it: a session that ended, a sign-in elsewhere, a way off the page."""

import pytest
from playwright.sync_api import expect

from contributions.models import Contribution
from portal.institutions.models import Membership
from tests import contributing, factories

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def draft(institution, programme, steward) -> Contribution:
    return contributing.draft(institution, contributing.registered_base(programme), by=steward, training_card={})


@pytest.fixture
def card(page_for, draft, steward):
    """The card of the draft, open before its steward, with an answer typed."""
    steward.set_password("a retina of glass")
    steward.save()
    page = page_for(steward, f"/contributions/{draft.pk}/card/")
    page.get_by_label("Ethics reference").click()  # a browser asks nothing of who has touched nothing
    page.keyboard.type("HREC/2026/9")
    return page


def sign_in_on(page, steward) -> None:
    page.locator("input[name=login]").fill(steward.email)
    page.locator("input[name=password]").fill("a retina of glass")
    page.locator("main form button[type=submit]").first.click()


def test_what_was_typed_is_there_again_after_signing_in(card, draft, steward):
    card.context.clear_cookies(name="sessionid")
    card.get_by_role("button", name="Save unfinished").click()
    expect(card.get_by_text("You had been signed out, so nothing was saved.")).to_be_visible()
    sign_in_on(card, steward)
    expect(card.get_by_label("Ethics reference")).to_have_value("HREC/2026/9")
    expect(card.get_by_text("What you typed is here again")).to_be_visible()
    card.get_by_role("button", name="Save unfinished").click()
    expect(card.get_by_text("The draft is saved.")).to_be_visible()
    draft.refresh_from_db()
    assert draft.training_card == {"ethics_reference": "HREC/2026/9"}
    card.goto(f"/contributions/{draft.pk}/card/")
    expect(card.get_by_text("What you typed is here again")).to_have_count(0)


def test_nobody_else_gets_what_was_typed(card, institution):
    other = factories.user("Another steward")
    factories.join(institution, other, Membership.Role.STEWARD)
    other.set_password("a retina of glass")
    other.save()
    card.context.clear_cookies(name="sessionid")
    card.get_by_role("button", name="Save unfinished").click()
    expect(card.get_by_text("You had been signed out, so nothing was saved.")).to_be_visible()
    sign_in_on(card, other)
    expect(card.get_by_label("Ethics reference")).to_have_value("")
    expect(card.get_by_text("What you typed is here again")).to_have_count(0)
    assert card.evaluate("sessionStorage.getItem('kept-form')") is None


def test_a_page_that_follows_by_itself_stays_where_it_is_and_says_that_the_session_has_ended(card):
    card.context.clear_cookies(name="sessionid")
    card.evaluate("htmx.ajax('GET', '/contributions/')")
    expect(card.get_by_text("You have been signed out, and this page follows nothing any more.")).to_be_visible()
    link = card.get_by_role("link", name="Sign in in a new window, then go on here.")
    assert link.get_attribute("href").endswith("/card/")
    expect(card.get_by_label("Ethics reference")).to_have_value("HREC/2026/9")


def test_signing_in_in_another_window_does_not_spoil_the_form(card, draft, steward):
    card.context.clear_cookies()
    other = card.context.new_page()
    other.goto("/accounts/login/")
    sign_in_on(other, steward)
    other.wait_for_url("/")
    card.get_by_role("button", name="Save unfinished").click()
    expect(card.get_by_text("The draft is saved.")).to_be_visible()
    draft.refresh_from_db()
    assert draft.training_card == {"ethics_reference": "HREC/2026/9"}


def test_leaving_the_page_asks_first_and_saving_does_not(card, draft):
    asked = []
    card.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    card.locator("#id_card_file").set_input_files({"name": "c.json", "mimeType": "text/plain", "buffer": b"{}"})
    card.get_by_role("button", name="Fill the form from the file").click()
    expect(card.get_by_label("Ethics reference")).to_have_value("HREC/2026/9")
    card.get_by_role("button", name="Save unfinished").click()
    expect(card.get_by_text("The draft is saved.")).to_be_visible()
    assert asked == ["beforeunload"]
