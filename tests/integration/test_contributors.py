"""Who did what: a steward names, each person alone confirms; what a version changed; what a withdrawal touches."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import credits, services, versions
from contributions.corpora import services as corpora
from contributions.models import Contribution, Contributor
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import memberships
from portal.notifications.models import Notification
from tests import contributing, factories

pytestmark = pytest.mark.services


@pytest.fixture
def draft(institution, steward) -> Contribution:
    return factories.draft_contribution(institution)


def named(contribution, person, steward) -> Contributor:
    return credits.add(contribution, person, by=steward, now=timezone.now())


def confirmed(row, *roles) -> Contributor:
    return credits.confirm(row, roles=roles, by=row.person, now=timezone.now())


def test_a_person_is_asked_and_confirms_with_their_own_roles(draft, steward, member):
    row = named(draft, member, steward)
    asked = Notification.objects.get(recipient=member)
    assert (asked.subject, asked.path) == (f"You are named on {draft}", f"/contributions/{draft.pk}/contributors/mine/")
    row = confirmed(row, "software", "data-curation", "software")
    assert (row.roles, row.role_labels()) == (["data-curation", "software"], ["Data curation", "Software"])
    verbs = AuditEvent.objects.filter(subject_type="contributor").order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["contributor.added", "contributor.confirmed"]
    assert member.name not in AuditEvent.objects.filter(subject_type="contributor").first().subject


def test_nobody_confirms_for_another(draft, steward, member, investigator, operator):
    row = named(draft, member, steward)
    for person in (steward, investigator, operator):
        with pytest.raises(NotAllowed):
            credits.confirm(row, roles=["software"], by=person, now=timezone.now())
    row.refresh_from_db()
    assert row.confirmed_at is None


@pytest.mark.parametrize("roles", [[], ["cooking"], ["software", "cooking"]])
def test_only_roles_of_the_taxonomy_are_taken(draft, steward, member, roles):
    with pytest.raises(credits.RolesMissing):
        confirmed(named(draft, member, steward), *roles)


def test_only_the_institutions_people_are_named_once_by_its_stewards(draft, steward, member, outsider, researcher):
    for person in (outsider, researcher):
        with pytest.raises(credits.NotTheirs):
            named(draft, person, steward)
    for person in (member, outsider):
        with pytest.raises(NotAllowed):
            credits.add(draft, member, by=person, now=timezone.now())
    named(draft, member, steward)
    with pytest.raises(credits.NamedAlready):
        named(draft, member, steward)
    assert set(credits.candidates(draft)) == set(factories.institutions.people(draft.institution)) - {member}


def test_a_line_that_waits_is_seen_inside_alone(draft, steward, member, board):
    waiting, done = named(draft, member, steward), confirmed(named(draft, steward, steward), "supervision")
    assert list(credits.shown(draft, steward)) == [waiting, done]
    assert list(credits.shown(draft, board[1])) == [done]


def test_a_name_comes_off_by_its_owner_always_and_by_a_steward_while_the_contribution_lives(
    draft, steward, member, outsider
):
    row = named(draft, member, steward)
    with pytest.raises(NotAllowed):
        credits.remove(row, by=outsider)
    credits.remove(row, by=member)
    row = named(draft, member, steward)
    services.withdraw(draft, by=steward, reason="Wrong file.", now=timezone.now())
    row.refresh_from_db()
    for forbidden in (lambda: credits.remove(row, by=steward), lambda: confirmed(row, "software")):
        with pytest.raises(credits.CreditFixed):
            forbidden()
    assert Contributor.objects.count() == 1
    credits.remove(row, by=member)
    assert Contributor.objects.count() == 0
    assert not member.notifications.filter(subject__startswith="You are no longer named").exists()


def test_who_is_taken_off_by_a_steward_is_told(draft, steward, member, investigator):
    row = confirmed(named(draft, member, steward), "software")
    assert "A data steward or principal investigator can take it off too" in member.notifications.latest("pk").text
    credits.remove(row, by=investigator)
    told = member.notifications.latest("pk")
    assert (told.subject, told.path) == (f"You are no longer named on {draft}", draft.get_absolute_url())
    assert told.text.startswith(f"{{person:{investigator.pk}}} took your line off the list of contributors.")
    row = named(draft, member, steward)
    leave(member)
    credits.remove(row, by=steward)
    assert member.notifications.latest("pk").path == draft.institution.get_absolute_url()


def test_a_line_that_is_taken_off_at_the_same_instant_is_neither_confirmed_nor_taken_off_twice(draft, steward, member):
    row = named(draft, member, steward)
    again = Contributor.objects.get(pk=row.pk)
    credits.remove(row, by=steward)
    for late in (lambda: confirmed(again, "software"), lambda: credits.remove(again, by=member)):
        with pytest.raises(credits.NotNamed, match="is not on the list of contributors any more"):
            late()
    assert verbs() == ["contributor.added", "contributor.removed"]
    assert member.notifications.filter(subject__startswith="You are no longer named").count() == 1


def test_what_is_withdrawn_at_the_same_instant_credits_nobody_more(draft, steward, member):
    row = named(draft, member, steward)
    read = Contributor.objects.select_related("contribution").get(pk=row.pk)
    services.withdraw(Contribution.objects.get(pk=draft.pk), by=steward, reason="Wrong file.", now=timezone.now())
    late = [
        lambda: confirmed(read, "software"),
        lambda: named(draft, steward, steward),
        lambda: credits.remove(read, by=steward),
    ]
    for step in late:
        with pytest.raises(credits.CreditFixed):
            step()
    assert verbs() == ["contributor.added"]


def verbs() -> list[str]:
    events = AuditEvent.objects.filter(subject_type="contributor").order_by("pk")
    return list(events.values_list("verb", flat=True))


def leave(person) -> None:
    memberships.end_membership(person.memberships.get(), by=person, now=timezone.now())


def test_the_database_refuses_a_line_that_cannot_be(draft, steward, member):
    row = named(draft, member, steward)
    for broken in ({"roles": ["cooking"]}, {"confirmed_at": timezone.now()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Contributor.objects.filter(pk=row.pk).update(**broken)
    with pytest.raises(IntegrityError), transaction.atomic():
        Contributor.objects.create(contribution=draft, person=member)


# Pages


def test_the_pages_of_naming_and_confirming(sign_in, draft, steward, member, outsider):
    url = f"/contributions/{draft.pk}/"
    assert sign_in(steward).post(f"{url}contributors/", {"person": member.pk}).status_code == 302
    client = sign_in(member)
    assert "You are named here" in client.get(url).content.decode()
    page = client.get(f"{url}contributors/mine/").content.decode()
    assert ("Data curation" in page, "Not connected." in page) == (True, True)
    assert client.post(f"{url}contributors/mine/", {}).status_code == 422
    assert client.post(f"{url}contributors/mine/", {"roles": ["software"]}).status_code == 302
    page = client.get(url).content.decode()
    assert ("Software" in page, "Confirmed" in page) == (True, True)
    assert sign_in(steward).get(f"{url}contributors/mine/").status_code == 404
    assert sign_in(outsider).get(f"{url}contributors/mine/").status_code == 404
    row = draft.contributors.get()
    assert sign_in(steward).post(f"{url}contributors/{row.pk}/remove/").status_code == 302
    assert draft.contributors.count() == 0


def test_a_superuser_of_no_institution_is_offered_nothing(sign_in, draft, steward, member, operator):
    named(draft, member, steward)
    factories.upload(draft, b"weights")
    services.submit(draft, by=steward, now=timezone.now())
    operator.is_superuser = True
    operator.save()
    pages = [sign_in(person).get(f"/contributions/{draft.pk}/").content.decode() for person in (steward, operator)]
    assert [page.count("Remove<span") for page in pages] == [1, 0]


@pytest.mark.parametrize("status", ["rejected", "withdrawn"])
def test_the_line_of_an_ended_contribution_is_history_and_comes_off(
    sign_in, institution, steward, member, programme, status
):
    base = contributing.registered_base(programme)
    contribution = contributing.at_status("review", institution, base, by=steward)
    confirmed(named(contribution, member, steward), "software")
    named(contribution, steward, steward)
    if status == "rejected":
        services.reject(contribution.pk, by=None, reason="Too few patients.", now=timezone.now())
    else:
        services.withdraw(contribution, by=steward, reason="Wrong file.", now=timezone.now())
    client, url = sign_in(member), contribution.get_absolute_url()
    page = client.get(url).content.decode()
    assert ("This list is history" in page, page.count("Not credited"), ">Confirmed<" in page) == (True, 2, False)
    assert "You are named here" not in sign_in(steward).get(url).content.decode()
    page = client.get(f"{url}contributors/mine/").content.decode()
    assert ("This line is history" in page, "Confirm my line" in page) == (True, False)
    assert ("Take my name off" in page, "<dd>Software</dd>" in page) == (True, True)
    refused = client.post(f"{url}contributors/mine/", {"roles": ["software"]})
    assert (refused.status_code, "credits nobody any more" in refused.content.decode()) == (422, True)
    row = contribution.contributors.get(person=member)
    assert client.post(f"{url}contributors/{row.pk}/remove/").headers["Location"] == url
    assert [line.person for line in contribution.contributors.all()] == [steward]


def test_who_left_the_institution_reaches_the_own_line_and_nothing_else(sign_in, draft, steward, member, outsider):
    row = named(draft, member, steward)
    leave(member)
    client, url = sign_in(member), draft.get_absolute_url()
    own = f"{url}contributors/mine/"
    assert client.get(url).status_code == 404
    page = client.get(own)
    assert (page.status_code, f"You are named on {draft} of {draft.institution}." in contributing.text(page)) == (
        200,
        True,
    )
    assert f'href="{url}"' not in page.content.decode()
    assert draft.base_model.slug not in page.content.decode()
    answer = client.post(own, {"roles": ["software"]})
    assert (answer.status_code, answer.headers["Location"]) == (302, own)
    row.refresh_from_db()
    assert row.role_labels() == ["Software"]
    services.withdraw(draft, by=steward, reason="Wrong file.", now=timezone.now())
    page = contributing.text(client.get(own))
    assert ("This line is history" in page, "withdrawn" in page.lower(), "Wrong file" in page) == (True, False, False)
    page = contributing.text(client.post(own, {"roles": ["supervision"]}))
    assert ("credits nobody any more" in page, "withdrawn" in page.lower()) == (True, False)
    others = named_on_another(draft, steward)
    for address in (f"{url}contributors/{others.pk}/remove/", f"/contributions/{others.contribution_id}/contributors/"):
        assert client.post(address).status_code == 404
    assert client.post(f"{url}contributors/{row.pk}/remove/").headers["Location"] == "/"
    assert not Contributor.objects.filter(person=member).exists()
    assert client.get(own).status_code == 404


def named_on_another(draft, steward) -> Contributor:
    return named(factories.draft_contribution(draft.institution), steward, steward)


# Versions and withdrawal


def test_a_corrected_contribution_says_what_changed(sign_in, institution, steward, programme):
    base = contributing.registered_base(programme)
    old = contributing.at_status("rejected", institution, base, by=steward)
    contributing.check(old, 1, "fail", name="container")
    new = services.replace(old, by=steward, now=timezone.now())
    assert [change.what for change in versions.changes(old, new)] == ["File", "Check 1 container"]
    card = {**new.training_card, "steps": 900}
    services.change(new, by=steward, now=timezone.now(), title="Better", training_card=card)
    found = {change.what: (change.before, change.after) for change in versions.changes(old, new)}
    new.refresh_from_db()
    found = {change.what: (change.before, change.after) for change in versions.changes(old, new)}
    assert (found["Title"], found["Card: Steps"]) == (("Generator of the eye clinic", "Better"), ("400", "900"))
    page = sign_in(steward).get(new.get_absolute_url()).content.decode()
    assert f"What changed since C-{old.pk}" in page
    assert "What changed since" not in sign_in(steward).get(old.get_absolute_url()).content.decode()


def test_a_withdrawal_lists_what_it_touches_first(sign_in, institution, steward, programme, operator):
    base = contributing.registered_base(programme)
    contribution = contributing.at_status("approved", institution, base, by=steward)
    client = sign_in(steward)
    url = f"/contributions/{contribution.pk}/withdraw/"
    assert "no corpus holds images of it" in client.get(url).content.decode()
    now = timezone.now()
    corpus = corpora.draft_corpus(programme, slug="c", title="Corpus of May", by=operator, now=now)
    corpora.add_generator(corpus, contribution, image_count=64, seed=1, now=timezone.now())
    page = client.get(url).content.decode()
    assert ("Corpus of May" in page, "Not frozen yet" in page) == (True, True)
    corpora.freeze(corpus, by=operator, now=now)
    assert "it stays as it is" in client.get(url).content.decode()
    assert [row["candidates"] for row in versions.impact(contribution)] == [[]]
