"""The day from which a contribution may be used, while it is a draft: given, changed, taken over by a correction."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import embargo, versions
from contributions import services as contributions
from contributions.models import LONGEST_EMBARGO, Contribution
from portal.audit.models import AuditEvent
from tests import factories
from tests.contributing import text
from tests.integration.test_embargo import DAY, TODAY, kept, midnight, written

__all__ = ["kept"]  # fixtures
pytestmark = pytest.mark.services


@pytest.mark.parametrize("days", [-1, 0])
def test_a_draft_gets_no_day_that_is_over(institution, draft, steward, days):
    for given in (TODAY + timedelta(days=days), TODAY + LONGEST_EMBARGO + timedelta(days=1)):
        with pytest.raises(embargo.EmbargoRefused):
            contributions.change(draft, embargo_until=given, by=steward, now=timezone.now())
        with pytest.raises(embargo.EmbargoRefused):
            factories.draft_contribution(institution, embargo_until=given)
    draft.refresh_from_db()
    assert draft.embargo_until is None


def test_a_draft_gets_a_day_a_later_one_and_none(draft, steward):
    last = TODAY + LONGEST_EMBARGO
    for day in (TODAY + timedelta(days=1), last, None):
        contributions.change(draft, embargo_until=day, by=steward, now=timezone.now())
        draft.refresh_from_db()
        assert draft.embargo_until == day
    events = AuditEvent.objects.filter(verb="contribution.changed").order_by("pk")
    assert [event.facts["fields"] for event in events] == [["embargo_until"]] * 3
    with pytest.raises(embargo.EmbargoRefused, match=f"Give a day up to {written(last)}"):
        contributions.change(
            draft, embargo_until=last + timedelta(days=1), by=steward, now=timezone.now() + timedelta(days=30)
        )


def test_a_day_that_came_meanwhile_keeps_no_draft_from_being_changed(draft, steward, sign_in):
    contributions.change(draft, embargo_until=DAY, by=steward, now=timezone.now())
    later = midnight(DAY) + timedelta(days=1)
    contributions.change(draft, title="Better", embargo_until=DAY, by=steward, now=later)
    draft.refresh_from_db()
    assert (draft.title, draft.embargo_until) == ("Better", DAY)


def test_the_database_knows_the_longest_embargo(draft):
    rows = Contribution.objects.filter(pk=draft.pk)
    rows.update(embargo_until=TODAY + LONGEST_EMBARGO)
    with pytest.raises(IntegrityError, match="contribution_embargo_ends_in_time"), transaction.atomic():
        rows.update(embargo_until=TODAY + LONGEST_EMBARGO + timedelta(days=1))


def test_the_form_of_a_draft(draft, steward, sign_in):
    client, path = sign_in(steward), f"/contributions/{draft.pk}/details/"
    given = {"title": draft.title, "base_model": draft.base_model_id}
    answer = client.post(path, {**given, "embargo_until": TODAY.isoformat()})
    assert answer.context["form"].errors == {
        "embargo_until": ["An embargo ends on a day that is to come. Give a later one, or leave it out."]
    }
    assert client.post(path, {**given, "embargo_until": DAY.isoformat()}).status_code == 302
    draft.refresh_from_db()
    assert draft.embargo_until == DAY
    assert f'value="{DAY.isoformat()}"' in client.get(path).content.decode()
    assert f"{DAY.day} {DAY:%b %Y}. Once it is submitted" in text(client.get(f"/contributions/{draft.pk}/submit/"))
    client.post(path, {**given, "embargo_until": ""})
    draft.refresh_from_db()
    assert draft.embargo_until is None


def test_a_new_contribution_begins_with_it(institution, base, steward, sign_in):
    given = {"institution": institution.pk, "kind": "weights", "title": "T", "base_model": base.pk}
    sign_in(steward).post("/contributions/new/", {**given, "embargo_until": DAY.isoformat()})
    assert institution.contributions.get().embargo_until == DAY


def test_a_correction_takes_it_over_while_it_is_to_come(kept, institution, steward):
    contributions.withdraw(kept, by=steward, reason="Wrong file.", now=timezone.now())
    correction = contributions.replace(kept, by=steward, now=timezone.now())
    assert (correction.embargo_until, versions.changes(kept, correction)[0].what) == (DAY, "File")
    contributions.change(correction, embargo_until=None, by=steward, now=timezone.now())
    correction.refresh_from_db()
    told = [(row.what, row.before, row.after) for row in versions.changes(kept, correction)]
    assert ("Not to be used before", written(DAY), "") in told


def test_a_correction_takes_over_no_day_that_is_over(kept, steward):
    contributions.withdraw(kept, by=steward, reason="Wrong file.", now=timezone.now())
    assert contributions.replace(kept, by=steward, now=midnight(DAY)).embargo_until is None
