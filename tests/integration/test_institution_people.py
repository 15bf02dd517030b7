"""People of an institution: roles and invitations."""

import re
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse
from django.utils import timezone

from portal.institutions import memberships, services
from portal.institutions.models import Membership
from tests import factories

Role = Membership.Role
PROFILE = {
    "name": "Lake Hospital",
    "local_name": "ሐይቅ ሆስፒታል",
    "ror_id": "https://ror.org/04cpxjv19",
    "country": "ET",
    "city": "Bahir Dar",
    "kind": "hospital",
    "website": "https://lake.example",
    "image_count": "1200",
    "gpu": "small",
    "expertise": "some",
    "images_may_leave": "no",
    "synthetic_may_leave": "unknown",
    "weights_may_leave": "yes",
    "regulation_note": "Proclamation 1321/2024",
    "ethics_reference": "ERC/7",
}
BEGIN = {name: PROFILE[name] for name in ("name", "local_name", "ror_id", "country", "city", "kind", "website")}
BEGIN["role"] = "principal_investigator"


def mailed_path(mailoutbox) -> str:
    """Return the path of the link at the end of the newest mail."""
    return re.search(r"https?://[^/]+(/\S+)", mailoutbox[-1].body)[1]


# People


def test_an_invitation_is_mailed_shown_and_accepted_by_post_only(
    client, sign_in, institution, mailoutbox, django_capture_on_commit_callbacks
):
    manager, invited = factories.person_of(institution), factories.user("Nia New", email="nia@example.org")
    with django_capture_on_commit_callbacks(execute=True):
        sign_in(manager).post(
            reverse("institutions:invite", args=[institution.slug]), {"email": "Nia@Example.org", "role": "steward"}
        )
    path = mailed_path(mailoutbox)
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 200  # nobody is signed in: shown, not accepted
    visitor = sign_in(invited)
    assert visitor.get(path).context["fits"] is True
    assert not services.is_member(invited, institution)
    assert visitor.post(path).headers["Location"] == institution.get_absolute_url()
    assert services.is_member(invited, institution, Role.STEWARD)
    assert visitor.post(path).status_code == 409  # used


@pytest.mark.parametrize("address", ["other", "unverified"])
def test_an_invitation_is_bound_to_the_verified_address(
    sign_in, institution, mailoutbox, django_capture_on_commit_callbacks, address
):
    stranger = factories.user("Sam Stranger")
    if address == "unverified":
        EmailAddress.objects.create(user=stranger, email="nia@example.org", verified=False)
    with django_capture_on_commit_callbacks(execute=True):
        memberships.invite(
            institution,
            email="nia@example.org",
            role="steward",
            by=factories.person_of(institution),
            now=timezone.now(),
        )
    client = sign_in(stranger)
    assert client.get(mailed_path(mailoutbox)).context["fits"] is False
    assert client.post(mailed_path(mailoutbox)).status_code == 409
    assert not services.is_member(stranger, institution)


def test_an_invitation_ends_by_withdrawal_and_by_time(
    sign_in, institution, mailoutbox, django_capture_on_commit_callbacks
):
    manager = factories.person_of(institution)
    invited = sign_in(factories.user("Nia New", email="nia@example.org"))
    for sent_at in (timezone.now(), timezone.now() - timedelta(days=15)):
        with django_capture_on_commit_callbacks(execute=True):
            row, _ = memberships.invite(institution, email="nia@example.org", role="member", by=manager, now=sent_at)
        if row.expires_at > timezone.now():
            url = reverse("institutions:withdraw_invitation", args=[institution.slug, row.pk])
            assert sign_in(manager).post(url).status_code == 302
        assert invited.post(mailed_path(mailoutbox)).status_code == 409
    assert not institution.memberships.filter(user__name="Nia New").exists()


def test_the_people_page_shows_invitations_to_managers_only(sign_in, institution, steward, member, outsider):
    url = reverse("institutions:people", args=[institution.slug])
    assert "Invite somebody" in sign_in(steward).get(url).text
    page = sign_in(member).get(url)
    assert page.status_code == 200
    assert "Invite somebody" not in page.text
    assert steward.email not in page.text
    assert sign_in(outsider).get(url).status_code == 403


def test_my_institutions_and_waiting_invitations(sign_in, institution, steward, programme):
    other = factories.admitted_institution("Andes Retina", country="PE")
    memberships.invite(other, email=steward.email, role="member", by=factories.person_of(other), now=timezone.now())
    memberships.invite(other, email="x@example.org", role="member", by=factories.person_of(other), now=timezone.now())
    page = sign_in(steward).get(reverse("institutions:mine"))
    assert [row.name for row, _ in page.context["institutions"]] == ["Moi Eye Clinic"]
    assert [row.email for row in page.context["invitations"]] == [steward.email]


def test_a_role_is_given_to_people_who_are_here(sign_in, institution, member, outsider):
    client = sign_in(factories.person_of(institution))
    url = reverse("institutions:add_role", args=[institution.slug])
    assert client.post(url, {"person": member.pk, "role": "steward"}).status_code == 302
    assert services.is_member(member, institution, Role.STEWARD)
    assert client.post(url, {"person": outsider.pk, "role": "steward"}).status_code == 422
    assert not services.is_member(outsider, institution)


def test_a_role_ends_after_asking_and_takes_its_rights_along(sign_in, institution, steward):
    membership = steward.memberships.get()
    url = reverse("institutions:end_membership", args=[institution.slug, membership.pk])
    client = sign_in(steward)
    assert client.get(url).status_code == 200
    assert services.manages(steward, institution)
    assert client.post(url).headers["Location"] == reverse("account_login")
    assert not services.manages(steward, institution)
    assert client.post(url).headers["Location"].startswith(reverse("account_login"))  # every session has ended
    assert sign_in(steward).post(url).status_code == 404


def test_the_last_manager_stays(sign_in, institution):
    investigator = factories.person_of(institution)
    membership = investigator.memberships.get()
    sign_in(investigator).post(reverse("institutions:end_membership", args=[institution.slug, membership.pk]))
    assert services.manages(investigator, institution)


def test_a_member_ends_no_role_of_others(sign_in, institution, member, steward):
    url = reverse("institutions:end_membership", args=[institution.slug, steward.memberships.get().pk])
    assert sign_in(member).post(url).status_code == 404
    assert services.is_member(steward, institution, Role.STEWARD)
