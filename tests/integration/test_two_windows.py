"""One draft in two windows, or in the hands of two people: what one saved the other does not overwrite unawares."""

import re
from datetime import date, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from contributions import drafts, services
from contributions.models import Contribution
from tests import contributing

DAY = timezone.now().date() + timedelta(days=90)
WARNING = "saved in another window, or by somebody else"


@pytest.fixture
def draft(institution, base, steward) -> Contribution:
    return contributing.draft(institution, base, by=steward, training_card={})


def here(contribution: Contribution, rest: str = "") -> str:
    return f"/contributions/{contribution.pk}/{rest}"


def seen(response) -> str:
    return re.search(r'name="seen" value="(\w+)"', response.content.decode())[1]


def details(draft: Contribution, **given: Any) -> dict[str, Any]:
    return {"title": draft.title, "base_model": draft.base_model_id, "embargo_until": "", **given}


def standing(draft: Contribution) -> tuple[str, date | None, dict]:
    draft.refresh_from_db()
    return draft.title, draft.embargo_until, draft.training_card


@pytest.fixture
def other_window(monkeypatch, draft, steward):
    """Another window saves at the same instant: after this one looked at the row, before it locks it."""

    def _saves(**given: Any) -> None:
        real = services.change

        def change(row: Contribution, **wanted: Any) -> Contribution:
            monkeypatch.setattr(services, "change", real)
            real(Contribution.objects.get(pk=draft.pk), by=steward, now=timezone.now(), **given)
            return real(row, **wanted)

        monkeypatch.setattr(services, "change", change)

    return _saves


def test_the_card_of_a_second_window_does_not_overwrite_unawares(browser, draft):
    url = here(draft, "card/")
    opened = seen(browser.get(url))
    browser.post(url, {"seen": opened, "images": "812", "unfinished": "1"})
    answer = browser.post(url, {"seen": opened, "steps": "400", "unfinished": "1"})
    text = contributing.text(answer)
    assert ("saved in another window" in text, 'name="steps" value="400"' in answer.content.decode()) == (True, True)
    draft.refresh_from_db()
    assert draft.training_card == {"images": 812}
    browser.post(url, {"seen": seen(answer), "steps": "400", "unfinished": "1"})
    draft.refresh_from_db()
    assert draft.training_card == {"steps": 400}


def test_the_same_card_from_a_second_window_are_no_conflict(browser, draft):
    url = here(draft, "card/")
    given = {"seen": seen(browser.get(url)), "images": "812", "unfinished": "1"}
    assert [browser.post(url, given).status_code for _ in range(2)] == [302, 302]


def test_the_details_of_a_second_window_do_not_overwrite_unawares(browser, draft):
    """The first one put it under embargo; the second, opened before, would lift that with a new title."""
    url, before = here(draft, "details/"), draft.title
    opened = seen(browser.get(url))
    browser.post(url, details(draft, embargo_until=DAY.isoformat(), seen=opened))
    answer = browser.post(url, details(draft, title="Better", seen=opened))
    assert (answer.status_code, WARNING in contributing.text(answer)) == (200, True)
    assert 'value="Better"' in answer.content.decode()
    assert standing(draft) == (before, DAY, {})
    assert browser.post(url, details(draft, title="Better", seen=seen(answer))).status_code == 302
    assert standing(draft) == ("Better", None, {})


def test_the_same_details_from_a_second_window_are_no_conflict(browser, draft):
    url = here(draft, "details/")
    given = details(draft, title="Better", seen=seen(browser.get(url)))
    assert [browser.post(url, given).status_code for _ in range(2)] == [302, 302]
    assert standing(draft) == ("Better", None, {})


def test_a_new_contribution_is_in_no_other_window(browser, institution, base):
    assert 'name="seen"' not in browser.get("/contributions/new/").content.decode()


def test_details_saved_at_the_same_instant_do_not_overwrite_each_other(browser, draft, other_window):
    url, before = here(draft, "details/"), draft.title
    opened = seen(browser.get(url))
    other_window(embargo_until=DAY)
    answer = browser.post(url, details(draft, title="Better", seen=opened))
    assert (answer.status_code, WARNING in contributing.text(answer)) == (200, True)
    assert standing(draft) == (before, DAY, {})


def test_cards_saved_at_the_same_instant_do_not_overwrite_each_other(browser, draft, other_window):
    url = here(draft, "card/")
    opened = seen(browser.get(url))
    other_window(training_card={"images": 812})
    answer = browser.post(url, {"seen": opened, "steps": "400", "unfinished": "1"})
    assert (answer.status_code, WARNING in contributing.text(answer)) == (200, True)
    assert standing(draft)[2] == {"images": 812}


def test_the_kits_file_does_not_overwrite_a_card_saved_at_the_same_instant(browser, draft, other_window):
    other_window(training_card={"images": 812})
    file = SimpleUploadedFile("training_card.json", b'{"steps": 400}')
    answer = browser.post(here(draft, "card/fill/"), {"card_file": file})
    assert (answer.status_code, WARNING in contributing.text(answer)) == (200, True)
    assert standing(draft)[2] == {"images": 812}


def test_what_the_other_window_left_alone_is_changed(draft, steward):
    read = Contribution.objects.get(pk=draft.pk)
    services.change(draft, title="Better", by=steward, now=timezone.now())
    services.change(read, embargo_until=DAY, as_read=True, by=steward, now=timezone.now())
    assert standing(draft) == ("Better", DAY, {})
    with pytest.raises(drafts.ChangedMeanwhile):
        services.change(read, title="Best", as_read=True, by=steward, now=timezone.now())
