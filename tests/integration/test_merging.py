"""A member that becomes an alias of another."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from contributions import deletion, holds
from contributions import services as contributions
from contributions.models import Contribution
from governance.board import conflicts
from portal.agreements.services import AgreementRequired
from portal.errors import NotAllowed
from portal.institutions import actions, merging, services
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership
from tests import factories

Role = Membership.Role
YEARS = timedelta(days=3 * 365)


def can(institution: Institution, user) -> dict[str, bool]:
    return {action.name: action.allowed for action in actions.available(institution, user, now=timezone.now())}


def resend(institution: Institution) -> Institution:
    return services.apply(institution, by=factories.person_of(institution), now=timezone.now())


@pytest.fixture
def applied(programme, operator) -> Institution:
    """An application that the operator reviews."""
    return factories.applied_institution("Lake Hospital", city="Kisumu", image_count=1200)


# Merging


def test_a_merged_member_is_an_alias_with_its_record(sign_in, institution, steward, member, operator, client):
    into = factories.member_institution("Great Eye Hospital")
    lead = factories.person_of(institution)
    services.start_membership(into, lead, Role.SIGNING_OFFICIAL, by=lead, now=timezone.now())
    contribution = factories.draft_contribution(institution)
    Institution.objects.filter(pk=institution.pk).update(ror_id="04cpxjv19")
    merging.merge(institution, into, by=operator, now=timezone.now())
    institution.refresh_from_db()
    assert (institution.status, institution.merged_into, institution.ror_id) == (Status.MERGED, into, "")
    assert not institution.memberships.current().exists()
    assert services.is_member(steward, into, Role.STEWARD)
    assert set(lead.memberships.current().values_list("role", flat=True)) == {"signing_official", "member"}
    assert (institution.signing_requests.count(), contribution.institution) == (1, institution)
    page = client.get(institution.get_absolute_url())
    assert "Great Eye Hospital" in page.text
    assert member.email not in page.text
    assert sign_in(steward).get(institution.get_absolute_url()).context["sees_file"]
    assert institution not in [
        row["institution"] for row in client.get(reverse("institutions:list")).context["institutions"]
    ]
    factories.draft_institution("Free again", ror_id="04cpxjv19")


def test_its_new_people_act_for_what_it_had_sent(sign_in, institution, steward, member, outsider, board, operator):
    """A patient of the old clinic objects: somebody must be able to take the contribution back."""
    into = factories.member_institution("Great Eye Hospital")
    manager = factories.person_of(into, Role.STEWARD)
    contribution = factories.reviewed_contribution(institution, b"sent before the merger")
    motion = contribution.motions.get()
    page = f"/contributions/{contribution.pk}/"
    assert sign_in(manager).get(page).status_code == 404
    draft = factories.draft_contribution(institution)
    merging.merge(institution, into, by=operator, now=timezone.now())
    factories.join(into, board[1])

    contribution = Contribution.objects.get(pk=contribution.pk)
    assert [sign_in(person).get(page).status_code for person in (manager, steward, member, outsider)] == [
        200, 200, 200, 404,
    ]  # fmt: skip
    assert "withdraw" in contributions.available_actions(contribution, manager)
    assert contributions.available_actions(contribution, outsider) == []
    assert set(conflicts.conflicts(motion)) == {board[1].pk}
    with pytest.raises(NotAllowed):
        contributions.withdraw(contribution, by=outsider, reason="Ours.", now=timezone.now())
    contribution = contributions.withdraw(contribution, by=manager, reason="A patient asked.", now=timezone.now())
    hold = holds.place(contribution, reason="A court asked.", by=operator, now=timezone.now())
    subject = f"The files of {contribution} are held back from deletion"
    assert [person.notifications.filter(subject=subject).count() for person in (manager, steward, outsider)] == [
        1,
        1,
        0,
    ]
    holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
    deletion.ask(contribution, by=manager, now=timezone.now())
    draft = Contribution.objects.get(pk=draft.pk)
    with pytest.raises(NotAllowed, match="is now part of Great Eye Hospital: begin there anew"):
        contributions.add_file(draft, name="a", size_bytes=1, sha256="0" * 64, by=manager, now=timezone.now())
    with pytest.raises(AgreementRequired, match="is now part of Great Eye Hospital"):
        contributions.submit(draft, by=manager, now=timezone.now())
    corrected = contributions.replace(contribution, by=manager, now=timezone.now())
    assert (corrected.institution, corrected.supersedes) == (into, contribution)


def test_only_an_operator_merges_and_only_members(sign_in, institution, steward, operator):
    into = factories.applied_institution("Not Yet Hospital")
    with pytest.raises(NotAllowed):
        merging.merge(institution, factories.admitted_institution("X"), by=steward, now=timezone.now())
    for other in (into, institution):
        with pytest.raises(merging.MergeRefused):
            merging.merge(institution, other, by=operator, now=timezone.now())
    url = reverse("institutions:merge", args=[institution.slug])
    assert sign_in(steward).get(url).status_code == 403
    assert sign_in(operator).post(url, {"into": into.pk}).status_code == 422
