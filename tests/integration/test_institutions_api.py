"""Institutions, people, invitations and tokens over the API, and that lists, answers and actions agree."""

import itertools

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from contributions.models import Contribution
from portal.accounts import services as accounts
from portal.accounts.models import ApiToken
from portal.audit.models import AuditEvent
from portal.institutions import memberships, services
from portal.institutions.models import Institution, Invitation, Membership
from tests import factories
from tests.integration.test_contributions_api import Kit

PROFILE = {"name": "Volta Teaching Hospital", "country": "GH", "kind": "hospital", "role": "principal_investigator"}


@pytest.fixture
def api(steward) -> Kit:
    return Kit(steward)


def can(document) -> dict[str, bool]:
    return {row["name"]: row["allowed"] for row in document["available_actions"]}


# The case


def test_the_whole_way_of_an_application(researcher):
    api = Kit(factories.enrol(researcher))
    status, begun = api.post("institutions", {**PROFILE, "ror_id": "https://ror.org/04cpxjv19", "gpu": "small"})
    assert (status, begun["status"], begun["subregion"], begun["ror_id"], begun["file"]["gpu"]) == (
        201,
        "draft",
        "011",
        "04cpxjv19",
        "small",
    )
    assert can(begun) == {"edit": True, "submit": True, "withdraw": True, "people": True, "pathway": True}
    here = f"institutions/{begun['slug']}"
    assert api.call("PATCH", here, {"city": "Ho", "expertise": "some"})[1]["city"] == "Ho"
    assert Institution.objects.get().gpu == "small"  # what was not given stays
    sent = api.post(f"{here}/send")[1]
    assert (sent["status"], sent["file"]["holder"]) == ("applied", "The board; an operator reviews it")
    assert can(sent) == {"withdraw": True, "people": True, "pathway": True}
    status, again = api.post(f"{here}/send")
    assert (status, again["code"]) == (409, "transition_not_allowed")
    assert api.post(f"{here}/withdraw")[1]["status"] == "withdrawn"
    assert list(
        AuditEvent.objects.filter(subject_type="institution").order_by("pk").values_list("verb", flat=True)
    ) == [
        "institution.drafted",
        "institution.applied",
        "institution.withdrawn",
    ]


def test_every_action_names_an_address_that_answers_it(researcher):
    api = Kit(factories.enrol(researcher))
    begun = api.post("institutions", PROFILE)[1]
    for action in begun["available_actions"]:
        path = action["url"].removeprefix("/api/v1/")
        body = BODIES.get(action["name"], {})
        status, answer = api.call(action["method"].upper(), path, body)
        assert status in {200, 201}, (action, answer)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"country": "XX"}, "country"),
        ({"ror_id": "04cpxjv18"}, "ror_id"),
        ({"name": ""}, "name"),
        ({"image_count": -1}, "image_count"),
        ({"kind": "zoo"}, "kind"),
        ({"role": "member"}, "role"),
    ],
)
def test_a_wrong_profile_names_the_field(researcher, changed, field):
    status, problem = Kit(researcher).post("institutions", {**PROFILE, **changed})
    assert (status, problem["code"], list(problem["errors"])) == (400, "invalid", [field])
    assert not Institution.objects.exists()


def test_a_ror_id_that_is_here_is_refused_once_for_all(researcher, institution):
    services.change_profile(institution, by=factories.person_of(institution), ror_id="04cpxjv19")
    status, problem = Kit(researcher).post("institutions", {**PROFILE, "ror_id": "04cpxjv19"})
    assert (status, problem["code"]) == (409, "ror_id_taken")


def test_the_public_sees_members_and_nothing_of_their_file(client, institution):
    factories.applied_institution("Lake Hospital")
    listed = client.get("/api/v1/institutions").json()
    assert ([row["slug"] for row in listed["results"]], listed["next"]) == ([institution.slug], None)
    shown = client.get(f"/api/v1/institutions/{institution.slug}").json()
    assert (shown["file"], shown["available_actions"]) == (None, [])
    assert client.get("/api/v1/institutions/lake-hospital").status_code == 404
    assert client.post("/api/v1/institutions", PROFILE, content_type="application/json").status_code == 401


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=andes", ["andes-retina"]),
        ("country=ke", ["moi-eye-clinic"]),
        ("region=005", ["andes-retina"]),
        ("mine=1", ["moi-eye-clinic"]),
        ("q=nothing", []),
        ("", ["andes-retina", "moi-eye-clinic"]),
    ],
)
def test_lists_are_narrowed(api, institution, outsider, query, expected):
    status, listed = api.get(f"institutions?{query}")
    assert (status, [row["slug"] for row in listed["results"]]) == (200, expected)


def test_a_filter_that_is_wrong_is_named(api):
    status, problem = api.get("institutions?q=%00&country=KEN")
    assert (status, sorted(problem["errors"])) == (400, ["country", "q"])


def test_nobody_has_institutions_of_their_own(client, db):
    assert client.get("/api/v1/institutions?mine=1").status_code == 401


# People


def test_roles_and_invitations(api, institution, member, steward, researcher):
    here = f"institutions/{institution.slug}"
    status, added = api.post(f"{here}/people", {"person": member.pk, "role": "steward"})
    assert (status, added["role"], added["name"]) == (201, "steward", member.name)
    assert api.post(f"{here}/people", {"person": member.pk, "role": "steward"})[1] == added  # never a second one
    status, ended = api.post(f"{here}/people/{added['id']}/end")
    assert (status, ended["ended_at"] is not None) == (200, True)
    assert api.post(f"{here}/people/{added['id']}/end")[1] == ended
    assert api.post(f"{here}/people", {"person": researcher.pk, "role": "member"})[0] == 404
    status, sent = api.post(f"{here}/invitations", {"email": researcher.email, "role": "member"})
    assert (status, sent["email"], "secret" in sent) == (201, researcher.email, False)
    assert [row["id"] for row in api.get(f"{here}/invitations")[1]["results"]][0] == sent["id"]
    assert api.post(f"{here}/invitations/{sent['id']}/withdraw")[1]["withdrawn_at"] is not None


def test_an_invitation_is_accepted_by_its_address_only(institution, steward, researcher, outsider):
    _, secret = memberships.invite(institution, email=researcher.email, role="member", by=steward, now=timezone.now())
    status, problem = Kit(outsider).post("invitations/accept", {"secret": secret})
    assert (status, problem["code"]) == (409, "invitation_invalid")
    status, taken = Kit(researcher).post("invitations/accept", {"secret": secret})
    assert (status, taken["role"], taken["person"]) == (201, "member", researcher.pk)
    assert Kit(researcher).post("invitations/accept", {"secret": secret})[1]["code"] == "invitation_invalid"


def test_the_last_manager_cannot_leave(institution):
    investigator = factories.person_of(institution)
    row = Membership.objects.get(user=investigator)
    status, problem = Kit(investigator).post(f"institutions/{institution.slug}/people/{row.pk}/end")
    assert (status, problem["code"]) == (403, "not_allowed")
    assert "Give somebody else the role" in problem["detail"]


# Tokens


def test_tokens_are_listed_and_ended(steward, outsider):
    accounts.create_token(outsider, name="of another", now=timezone.now())
    accounts.create_token(steward, name="old", now=timezone.now())
    api = Kit(steward)
    listed = api.get("tokens")[1]["results"]
    assert [row["name"] for row in listed] == ["kit", "old"]
    assert set(listed[0]) == {
        "id", "name", "created_at", "expires_at", "last_used_at", "revoked_at", "available_actions"
    }  # fmt: skip
    old = listed[1]["id"]
    assert api.post(f"tokens/{old}/revoke")[1]["revoked_at"] is not None
    assert can(api.post(f"tokens/{old}/revoke")[1]) == {"revoke": False}
    assert AuditEvent.objects.filter(verb="token.revoked").count() == 1
    other = ApiToken.objects.get(user=outsider).pk
    assert api.post(f"tokens/{other}/revoke")[0] == 404


# Lists, answers and actions agree (JOURNEYS 6.9)


@pytest.fixture
def small_world(institution, outsider, board, operator, auditor, researcher, steward, member):
    """Institutions in every state, and people of every kind."""
    applicant = factories.enrol(factories.user("Applicant"))
    factories.draft_institution("Draft Clinic", by=applicant)
    factories.applied_institution("Applied Clinic")
    declined = factories.applied_institution("Declined Clinic")
    services.decline(declined.pk, by=None, reason="No.", now=timezone.now())
    withdrawn = factories.applied_institution("Withdrawn Clinic")
    services.withdraw(withdrawn, by=factories.person_of(withdrawn), now=timezone.now())
    managers = [
        factories.person_of(row) for row in (declined, withdrawn, Institution.objects.get(name="Applied Clinic"))
    ]
    factories.draft_contribution(institution)
    factories.reviewed_contribution(institution)
    return [None, researcher, outsider, steward, member, board[1], operator, auditor, applicant, *managers]


def whole_list(api: Kit, path: str) -> list[dict]:
    rows, following = [], path
    while following:
        document = api.get(following)[1]
        rows += document["results"]
        following = document["next"] and document["next"].partition("/api/v1/")[2]
    return rows


def test_the_list_shows_exactly_what_can_be_opened(small_world, client, monkeypatch):
    monkeypatch.setattr("portal.paging.PAGE_SIZE", 2)
    slugs = list(Institution.objects.values_list("slug", flat=True))
    assert len(slugs) == 6
    for person in small_world:
        api = Kit(person) if person else Anonymous(client)
        listed = {row["slug"] for row in whole_list(api, "institutions")}
        opened = {slug for slug in slugs if api.get(f"institutions/{slug}")[0] == 200}
        assert listed == opened, person
        assert listed == set(
            Institution.objects.visible_to(person or AnonymousUser()).values_list("slug", flat=True)
        ), person


def test_contributions_that_are_listed_can_be_opened(small_world):
    for person in filter(None, small_world):
        api = Kit(person)
        listed = {row["id"] for row in whole_list(api, "contributions")}
        opened = {
            pk for pk in Contribution.objects.values_list("pk", flat=True) if api.get(f"contributions/{pk}")[0] == 200
        }
        assert listed == opened, person


BODIES = {
    "people": {"email": "new@example.org", "role": "member"},
    "withdraw": {"reason": "We leave."},
    "change_embargo": {"embargo_until": None},
    "pathway": {"kinds": ["synthetic"]},
    "appeal": {"grounds": "The approval was there."},
    "return": {"comments": {"city": "Which?"}},
    "decline": {"code": "identity", "reason": "Nobody answers."},
    "ask": {"role": "member"},
    "accept": {},
}


def test_an_action_that_is_offered_succeeds_and_a_blocked_one_is_refused_for_the_reason_given(small_world):
    objects = [f"institutions/{slug}" for slug in Institution.objects.values_list("slug", flat=True)]
    objects += [f"contributions/{pk}" for pk in Contribution.objects.values_list("pk", flat=True)]
    tried = 0
    for person, path in itertools.product(filter(None, small_world), objects):
        api = Kit(person)
        status, document = api.get(path)
        for action in document["available_actions"] if status == 200 else []:
            if not action["url"].startswith("/api/v1/"):
                continue  # on a page only
            with transaction.atomic():
                answered, problem = api.call(
                    action["method"].upper(), action["url"].removeprefix("/api/v1/"), BODIES.get(action["name"])
                )
                transaction.set_rollback(True)
            tried += 1
            assert (answered < 300) == action["allowed"], (str(person), path, action, problem)
            assert action["allowed"] or problem["code"] == action["code"], (str(person), path, action, problem)
            if not action["allowed"] and action["name"] == "submit" and document["status"] == "draft":
                assert problem["detail"] == action["reason"]
    assert tried >= 20


def test_what_is_not_offered_is_refused(small_world):
    """Whoever is offered nothing, and tries all the same, gets 403 or 404, is on record, and changes nothing."""
    before, tried = AuditEvent.objects.exclude(verb="token.created").count(), 0
    for person, row in itertools.product(filter(None, small_world), Institution.objects.all()):
        if services.manages(person, row):
            continue
        for name, method, body in (("", "PATCH", {"city": "X"}), ("/send", "POST", {}), ("/withdraw", "POST", {})):
            assert Kit(person).call(method, f"institutions/{row.slug}{name}", body)[0] in {403, 404}, (
                person,
                row,
                name,
            )
            tried += 1
    assert AuditEvent.objects.filter(verb="attempt.refused").count() == tried
    assert AuditEvent.objects.exclude(verb="token.created").count() == before + tried


class Anonymous:
    def __init__(self, client) -> None:
        self.client = client

    def get(self, path: str):
        response = self.client.get(f"/api/v1/{path}")
        return response.status_code, response.json()


# The number of queries


def copies(institution: Institution, number: int) -> None:
    """Add members, people, invitations and tokens: rows like those that are there, without the slow way to each."""
    template = Institution.objects.filter(pk=institution.pk).values().get()
    template.pop("id")
    Institution.objects.bulk_create(
        Institution(**{**template, "slug": f"copy-{n}", "name": f"Copy {n}", "ror_id": ""}) for n in range(number)
    )
    people = accounts.User.objects.bulk_create(
        accounts.User(email=f"copy-{n}@example.org", name=f"Copy {n}") for n in range(number)
    )
    Membership.objects.bulk_create(Membership(user=row, institution=institution, role="member") for row in people)
    manager = factories.person_of(institution)
    Invitation.objects.bulk_create(
        Invitation(
            institution=institution,
            email=f"copy-{n}@example.org",
            role="member",
            digest=f"{n:064x}",
            invited_by=manager,
            expires_at=timezone.now(),
        )
        for n in range(number)
    )
    ApiToken.objects.bulk_create(
        ApiToken(user=manager, name=f"t{n}", digest=f"{n:064d}", expires_at=timezone.now()) for n in range(number)
    )


@pytest.mark.parametrize("path", ["institutions", "institutions/{}/people", "institutions/{}/invitations", "tokens"])
def test_a_list_costs_the_same_with_ten_rows_and_with_a_thousand(institution, path):
    api = Kit(factories.person_of(institution))
    copies(institution, 10)

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            status, document = api.get(path.format(institution.slug))
        assert (status, len(document["results"]) >= 10) == (200, True)
        return len(queries)

    api.get("me")  # the first use of the token is noted
    few = cost()
    Institution.objects.filter(slug__startswith="copy-").delete()
    Invitation.objects.all().delete()
    ApiToken.objects.filter(name__startswith="t").delete()
    Membership.objects.filter(user__email__startswith="copy-").delete()
    accounts.User.objects.filter(email__startswith="copy-").delete()
    copies(institution, 1000)
    assert cost() == few
