"""The page of a contribution while its checks end."""

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from contributions import services
from contributions.lifecycle import Status
from portal import storage
from tests import contributing

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_an_open_page_says_why_it_was_rejected_and_what_became_of_the_files(
    browser, live_server, settings, institution, programme, steward, sign_in
):
    settings.PORTAL_URL = live_server.url
    storage.ensure_buckets()
    base = contributing.registered_base(programme)
    contribution = contributing.at_status(Status.VALIDATING, institution, base, by=steward)
    context = browser.new_context(base_url=live_server.url)
    session = sign_in(steward).cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page = context.new_page()
    page.goto(f"/contributions/{contribution.pk}/")
    expect(page.locator("#reason")).to_have_text("")
    expect(page.locator("#history")).not_to_contain_text("invalid")

    services.find_invalid(contribution.pk, reason="It is a pickle.", now=timezone.now())
    expect(page.locator("#reason")).to_contain_text("It is a pickle.")
    expect(page.locator("#files")).to_contain_text("Refused")
    expect(page.locator("#history")).to_contain_text(f"found C-{contribution.pk} {contribution.title} invalid")
    context.close()
