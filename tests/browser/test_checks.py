"""The page of a contribution while its checks end."""

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from contributions import services
from contributions.lifecycle import Status
from tests import contributing

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_an_open_page_says_why_it_was_rejected_and_what_became_of_the_files(page_for, institution, programme, steward):
    base = contributing.registered_base(programme)
    contribution = contributing.at_status(Status.VALIDATING, institution, base, by=steward)
    page = page_for(steward, f"/contributions/{contribution.pk}/")
    expect(page.locator("#reason")).to_have_text("")
    expect(page.locator("#history")).not_to_contain_text("invalid")

    services.find_invalid(contribution.pk, reason="It is a pickle.", now=timezone.now())
    expect(page.locator("#reason")).to_contain_text("It is a pickle.")
    expect(page.locator("#files")).to_contain_text("Refused")
    expect(page.locator("#history")).to_contain_text(f"found C-{contribution.pk} {contribution.title} invalid")
