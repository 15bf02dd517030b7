"""Who is a party to a case, and who is none any more: whoever left, whoever is bound by it, whoever was merged."""

from datetime import UTC, datetime, time, timedelta

import pytest
from django.urls import reverse

from portal.agreements import calendar, services
from portal.institutions import memberships, merging
from tests import factories

Role = factories.Role


def told(person, subject: str) -> int:
    return person.notifications.filter(subject=subject).count()


def test_a_signer_who_has_left_is_not_told_how_it_goes_on(case, volta, now):
    lead, official = factories.person_of(volta), factories.person_of(volta, Role.SIGNING_OFFICIAL)
    steward = factories.person_of(volta, Role.STEWARD)
    factories.sign_next(case)
    memberships.end_membership(volta.memberships.current().get(user=lead), by=steward, now=now)
    assert (case in type(case).objects.visible_to(lead)) is False
    services.decline(case, by=official, reason="Our lawyers found a fault.", now=now)
    assert [told(person, f"{case} was declined") for person in (lead, official, steward)] == [0, 1, 1]


def test_nobody_of_a_hospital_that_it_binds_countersigns_it(agreement, volta, now):
    covered = factories.admitted_institution("Kumasi Eye Centre", country="GH")
    signatory = factories.signatory()
    factories.join(covered, signatory)
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    draft = factories.draft_case(volta, agreement, covered=[covered])
    services.confirm_cover(draft.covered.get(), by=factories.person_of(covered), now=now)
    case = factories.signed_case(services.send(draft, by=factories.person_of(volta), now=now), times=2)
    assert services.next_party(case) == "consortium"
    with pytest.raises(services.NotYourTurn):
        factories.sign_next(case, by=signatory)
    other = factories.consortium_person("Another Signatory", "signatory")
    factories.sign_next(case, by=other)
    case.refresh_from_db()
    assert case.status == "active"


@pytest.fixture
def into(programme):
    return factories.member_institution("Great Eye Hospital", country="GH")


def test_the_people_of_a_merged_institution_see_its_agreement_and_end_it(sign_in, case, volta, into, operator, now):
    case = factories.signed_case(case)
    official, stranger = factories.person_of(into, Role.SIGNING_OFFICIAL), factories.user("A Stranger")
    page = case.get_absolute_url()
    assert sign_in(official).get(page).status_code == 404
    merging.merge(volta, into, by=operator, now=now)
    assert [sign_in(person).get(page).status_code for person in (official, stranger)] == [200, 404]
    assert sign_in(official).get(reverse("agreements:receipt_full", args=[case.receipt_code])).status_code == 200
    case = type(case).objects.get(pk=case.pk)
    ended = services.terminate(case, by=official, reason="We are one hospital now.", now=now)
    assert (ended.status, ended.ended_by, ended.ends_on) == ("terminated", "institution", None)
    assert told(official, f"{case} was terminated") == 1


@pytest.mark.parametrize("is_sent", [True, False])
def test_what_a_merged_institution_left_open_is_taken_back_by_the_other(
    sign_in, volta, agreement, into, operator, now, is_sent
):
    """It can be signed, sent and changed by nobody any more."""
    case = factories.draft_case(volta, agreement)
    if is_sent:
        factories.person_of(volta, Role.SIGNING_OFFICIAL)
        case = services.send(case, by=factories.person_of(volta), now=now)
    steward, former = factories.person_of(into, Role.STEWARD), factories.user("A Stranger")
    merging.merge(volta, into, by=operator, now=now)
    client, page = sign_in(steward), reverse("agreements:withdraw", args=[case.pk])
    assert f'href="{page}"' in client.get(case.get_absolute_url()).text
    assert sign_in(former).post(page).status_code == 404
    assert client.post(page).status_code == 302
    case = type(case).objects.get(pk=case.pk)
    assert (case.status, f'href="{page}"' in client.get(case.get_absolute_url()).text) == ("withdrawn", False)


def test_nobody_is_asked_to_renew_what_a_merged_institution_signed(sign_in, case, volta, into, operator, now):
    case = factories.signed_case(case)
    merging.merge(volta, into, by=operator, now=now)
    manager = factories.person_of(into)
    before = manager.notifications.count()
    calendar.sweep(now=datetime.combine(case.expires_on - timedelta(days=7), time.min, UTC))
    assert manager.notifications.count() == before
    calendar.sweep(now=datetime.combine(case.expires_on + timedelta(days=1), time.min, UTC))
    told_of = manager.notifications.get(subject=f"{case} has expired")
    assert (told_of.path, "Renew" in told_of.text) == (case.get_absolute_url(), False)
    assert sign_in(manager).get(told_of.path).status_code == 200


@pytest.fixture
def covered(programme):
    return factories.admitted_institution("Kumasi Eye Centre", country="GH")


@pytest.fixture
def named(agreement, volta, covered):
    """A draft that names a further hospital, which has not confirmed it yet."""
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    factories.signatory()
    return factories.draft_case(volta, agreement, covered=[covered])


def test_a_hospital_that_it_binds_is_told_when_it_is_in_force_and_when_a_renewal_leaves_it_out(
    named, volta, covered, agreement, now
):
    manager, lead = factories.person_of(covered), factories.person_of(volta)
    services.confirm_cover(named.covered.get(), by=manager, now=now)
    case = factories.signed_case(services.send(named, by=lead, now=now))
    assert [told(person, f"{case} is in force") for person in (manager, lead)] == [1, 1]
    renewal = factories.signed_case(factories.sent_case(volta, agreement))
    assert services.standing(covered, agreement, now=now).state == "none"
    assert [told(person, f"{renewal} is in force") for person in (manager, lead)] == [1, 2]  # not again
    assert [told(person, f"{covered} stands under {agreement} no longer") for person in (manager, lead)] == [1, 0]


@pytest.mark.parametrize("way", ["declined", "withdrawn"])
def test_a_hospital_that_it_names_is_told_when_it_comes_to_nothing(named, volta, covered, way, now):
    manager = factories.person_of(covered)
    services.confirm_cover(named.covered.get(), by=manager, now=now)
    if way == "declined":
        case = services.send(named, by=factories.person_of(volta), now=now)
        services.decline(case, by=factories.person_of(volta), reason="Not now.", now=now)
    else:
        services.withdraw(named, by=factories.person_of(volta), now=now)
    assert told(manager, f"{named} was {way}") == 1


def test_what_was_prepared_anew_is_read_and_confirmed_anew(named, volta, covered, agreement, now):
    cover = named.covered.get()
    factories.draft_case(volta, agreement, covered=[covered])
    with pytest.raises(services.CannotPrepare, match="prepared anew"):
        services.confirm_cover(cover, by=factories.person_of(covered), now=now)
    assert named.covered.get().confirmed_at is None


def test_a_hospital_under_it_is_reminded_with_a_page_that_opens_for_it(sign_in, named, volta, covered, now):
    manager, lead = factories.person_of(covered), factories.person_of(volta)
    services.confirm_cover(named.covered.get(), by=manager, now=now)
    case = factories.signed_case(services.send(named, by=lead, now=now))
    calendar.sweep(now=datetime.combine(case.expires_on - timedelta(days=7), time.min, UTC))
    calendar.sweep(now=datetime.combine(case.expires_on + timedelta(days=1), time.min, UTC))
    for subject in (f"{case} expires in 7 days", f"{case} has expired"):
        paths = [person.notifications.get(subject=subject).path for person in (manager, lead)]
        assert paths == [case.get_absolute_url(), f"/agreements/sign/{volta.slug}/retina/full/"]
        assert [sign_in(manager).get(path).status_code for path in paths] == [200, 403]
