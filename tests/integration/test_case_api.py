"""The case of an institution over the API: review, appeal, what it contributes, who joins, the registry."""

import pytest

from portal.institutions import joining, memberships
from portal.institutions.models import Institution, Invitation, JoinRequest, Membership
from tests import factories
from tests.integration.test_contributions_api import Kit
from tests.integration.test_institutions_api import can

Role = Membership.Role


@pytest.fixture
def applicant(board, operator) -> Institution:
    return factories.applied_institution("Lake Hospital")


def here(institution: Institution, step: str = "") -> str:
    return f"institutions/{institution.slug}" + (f"/{step}" if step else "")


# The profile


def test_every_field_of_the_profile_can_be_changed(programme):
    draft = factories.draft_institution("Lake Hospital")
    api = Kit(factories.person_of(draft))
    profile = {"cameras": "Topcon", "labels": ["dr", "amd"], "care_settings": ["clinic"], "years_from": 2015}
    status, changed = api.call("PATCH", here(draft), {**profile, "unknown": ["oct_count", "cameras"]})
    assert status == 200
    assert {name: changed["file"][name] for name in profile} == profile
    assert changed["file"]["unknown"] == ["oct_count"]  # an answer wins over a tick
    assert api.call("PATCH", here(draft), {"city": "Kisumu"})[1]["file"]["unknown"] == ["oct_count"]
    assert api.call("PATCH", here(draft), {"unknown": []})[1]["file"]["unknown"] == []


def test_an_answer_that_no_programme_brought_is_told_which_there_are(programme):
    draft = factories.draft_institution("Lake Hospital")
    status, problem = Kit(factories.person_of(draft)).call("PATCH", here(draft), {"care_settings": ["clinic", "ward"]})
    offered = "primary, screening, clinic, referral, cohort, unknown"
    assert (status, problem["errors"]) == (400, {"care_settings": [f"“ward” is not one of {offered}."]})


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"years_to": 2010}, "years_to"),
        ({"years_from": 1850}, "years_from"),
        ({"labels": ["plague"]}, "labels"),
        ({"unknown": ["name"]}, "unknown"),
        ({"image_count": 10**10}, "image_count"),
        ({"cameras": "x" * 2001}, "cameras"),
    ],
)
def test_a_wrong_answer_is_named(db, wrong, field):
    draft = factories.draft_institution("Lake Hospital", years_from=2015)
    status, problem = Kit(factories.person_of(draft)).call("PATCH", here(draft), wrong)
    assert (status, list(problem["errors"])) == (400, [field])


def test_a_twin_is_refused_until_one_says_it_is_another(researcher):
    factories.draft_institution("Lake Hospital", country="KE")
    body = {"name": "Lake hospital", "country": "KE", "kind": "hospital", "role": "steward"}
    api = Kit(researcher)
    assert api.post("institutions", body)[1]["code"] == "name_taken"
    assert api.post("institutions", {**body, "is_another": True})[0] == 201


# Review


def test_it_is_returned_with_comments_and_sent_again(applicant, operator):
    reviewer, applicants = Kit(operator), Kit(factories.person_of(applicant))
    status, returned = reviewer.post(here(applicant, "return"), {"comments": {"city": "Which?"}, "note": "Almost."})
    assert (status, returned["status"]) == (200, "returned")
    seen = applicants.get(here(applicant))[1]
    assert [(row["field"], row["text"]) for row in seen["file"]["comments"]] == [("city", "Which?")]
    assert (seen["file"]["note"], seen["file"]["round"]) == ("Almost.", 1)
    assert applicants.post(here(applicant, "send"))[1]["file"]["round"] == 2
    assert applicants.get(here(applicant))[1]["file"]["comments"] == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (409, "comments_missing")),
        ({"comments": {"shoe_size": "Which?"}}, (400, "invalid")),
        ({"comments": {"city": ["Which?"]}}, (400, "invalid")),
    ],
)
def test_a_return_says_what_to_change(applicant, operator, body, expected):
    status, problem = Kit(operator).post(here(applicant, "return"), body)
    assert (status, problem["code"]) == expected


def test_only_a_reviewer_returns_and_declines(applicant, auditor, researcher):
    body = {"comments": {"city": "Which?"}, "code": "identity", "reason": "No."}
    for person, expected in [(auditor, 403), (factories.person_of(applicant), 403), (researcher, 404)]:
        assert Kit(person).post(here(applicant, "return"), body)[0] == expected
        assert Kit(person).post(here(applicant, "decline"), body)[0] == expected
    applicant.refresh_from_db()
    assert applicant.status == "applied"


def test_it_is_declined_appealed_and_the_appeal_is_for_the_board_alone(applicant, operator):
    reviewer, applicants = Kit(operator), Kit(factories.person_of(applicant))
    assert reviewer.post(here(applicant, "decline"), {"code": "board_vote", "reason": "No."})[0] == 400
    declined = reviewer.post(here(applicant, "decline"), {"code": "identity", "reason": "Nobody answers."})[1]
    assert (declined["status"], declined["file"]["decision_code"]) == ("declined", "identity")
    assert can(applicants.get(here(applicant))[1]) == {"reopen": True, "appeal": True}
    assert applicants.post(here(applicant, "appeal"), {})[0] == 400
    assert applicants.post(here(applicant, "appeal"), {"grounds": "We do."})[1]["status"] == "applied"
    blocked = next(row for row in reviewer.get(here(applicant))[1]["available_actions"] if row["name"] == "decline")
    assert (blocked["allowed"], blocked["code"]) == (False, "not_allowed")
    refused = reviewer.post(here(applicant, "decline"), {"code": "identity", "reason": "Still."})
    assert (refused[0], refused[1]["code"]) == (403, blocked["code"])


def test_a_declined_one_is_reopened(board):
    declined = factories.declined_institution("Lake Hospital")
    assert Kit(factories.person_of(declined)).post(here(declined, "reopen"))[1]["status"] == "draft"


# How far it is, and what it contributes


def test_the_checklist_says_who_must_act(applicant, researcher):
    status, shown = Kit(factories.person_of(applicant)).get(here(applicant, "onboarding"))
    assert (status, shown["total"]) == (200, 9)
    assert shown["done"] == sum(step["done"] for step in shown["steps"])
    roles = {step["name"]: step["roles"] for step in shown["steps"]}
    assert roles["agreement"] == ["principal_investigator", "steward", "signing_official"]
    assert shown["target_on"] is not None
    assert Kit(researcher).get(here(applicant, "onboarding"))[0] == 404


def test_what_it_contributes_is_chosen_and_changed(institution, steward, member, researcher):
    api = Kit(steward)
    assert api.get(here(institution, "pathway"))[1]["chosen"] == []
    status, chosen = api.call("PUT", here(institution, "pathway"), {"kinds": ["weights", "synthetic"]})
    assert (status, chosen["chosen"]) == (200, ["synthetic", "weights"])
    assert {row["kind"] for row in chosen["advice"]} == {"weights", "synthetic", "images"}
    assert api.call("PUT", here(institution, "pathway"), {"kinds": []})[1]["chosen"] == []
    assert api.call("PUT", here(institution, "pathway"), {"kinds": ["blood"]})[0] == 400
    assert Kit(member).call("PUT", here(institution, "pathway"), {"kinds": ["weights"]})[0] == 403
    assert Kit(researcher).get(here(institution, "pathway"))[0] == 403


def test_what_may_not_leave_is_not_chosen(db):
    draft = factories.draft_institution("Lake Hospital", images_may_leave="no")
    status, problem = Kit(factories.person_of(draft)).call("PUT", here(draft, "pathway"), {"kinds": ["images"]})
    assert (status, problem["code"]) == (409, "pathway_refused")


# Who joins


def test_somebody_asks_and_is_taken_in(institution, steward, researcher, member):
    asking = Kit(researcher)
    status, asked = asking.post(here(institution, "join-requests"), {"role": "member", "message": "I work here."})
    assert (status, asked["state"], asked["available_actions"]) == (201, "asked", [])
    action = next(row for row in asking.get(here(institution))[1]["available_actions"] if row["name"] == "ask")
    again = asking.post(here(institution, "join-requests"), {"role": "member"})
    assert (action["allowed"], action["code"]) == (False, again[1]["code"])
    manager = Kit(steward)
    listed = manager.get(here(institution, "join-requests"))[1]["results"]
    assert [(row["id"], row["name"], can(row)) for row in listed] == [
        (asked["id"], researcher.name, {"accept": True, "decline": True})
    ]
    assert asking.get(here(institution, "join-requests"))[0] == 403
    assert Kit(member).post(here(institution, f"join-requests/{asked['id']}/accept"))[0] == 403
    accepted = manager.post(here(institution, f"join-requests/{asked['id']}/accept"), {"role": "steward"})[1]
    assert (accepted["state"], can(accepted)) == ("accepted", {"accept": False, "decline": False})
    assert list(researcher.memberships.values_list("role", flat=True)) == ["steward"]
    assert manager.post(here(institution, f"join-requests/{asked['id']}/accept"))[1]["code"] == "join_refused"


def test_somebody_asks_and_is_told_why_not(institution, steward, outsider, researcher, now):
    row = joining.ask(institution, role=Role.MEMBER, message="", by=researcher, now=now)
    path = here(institution, f"join-requests/{row.pk}/decline")
    assert Kit(outsider).post(path, {"reason": "No."})[0] == 403
    assert Kit(steward).post(path, {})[0] == 400
    assert Kit(steward).post(path, {"reason": "We do not know you."})[1]["state"] == "declined"
    assert JoinRequest.objects.get().reason == "We do not know you."


def test_nobody_learns_of_an_application_by_asking_to_join(applicant, researcher, operator):
    for person in (researcher, operator):
        assert Kit(person).post(here(applicant, "join-requests"), {"role": "member"})[0] == 404


def test_an_invitation_is_sent_again(institution, steward, now):
    sent, _ = memberships.invite(institution, email="new@example.org", role=Role.MEMBER, by=steward, now=now)
    digest = sent.digest
    again = Kit(steward).post(here(institution, f"invitations/{sent.pk}/resend"))[1]
    assert can(again) == {"resend": True, "withdraw": True}
    assert Invitation.objects.get(pk=sent.pk).digest != digest
    taken = Kit(steward).post(here(institution, f"invitations/{sent.pk}/withdraw"))[1]
    blocked = next(row for row in taken["available_actions"] if row["name"] == "resend")
    status, problem = Kit(steward).post(here(institution, f"invitations/{sent.pk}/resend"))
    assert (blocked["allowed"], blocked["code"], status) == (False, problem["code"], 409)


def test_roles_say_who_can_end_them(institution, steward, member):
    mine = Kit(member).get(here(institution, "people"))[1]["results"]
    assert {row["person"]: can(row) for row in mine if row["available_actions"]} == {member.pk: {"end": True}}
    theirs = Kit(steward).get(here(institution, "people"))[1]["results"]
    assert all(can(row) == {"end": True} for row in theirs)


# The registry


def test_the_registry_is_searched_in_the_local_copy(institution, steward):
    api = Kit(steward)
    found = api.get("ror?q=moorfields")[1]["results"]
    assert found
    assert set(found[0]) == {"ror_id", "name", "local_name", "country", "city", "website", "member"}
    assert found[0]["member"] is None
    Institution.objects.filter(pk=institution.pk).update(ror_id=found[0]["ror_id"])
    assert api.get("ror?q=moorfields")[1]["results"][0]["member"] == institution.slug
    assert api.get("ror")[0] == 400


# Tokens


@pytest.mark.parametrize("scope", ["read", "contribute"])
def test_a_narrow_token_changes_nothing_here(institution, steward, scope, now):
    api = Kit(steward)
    steward.api_tokens.update(scope=scope)
    assert api.get(here(institution, "pathway"))[0] == 200
    status, problem = api.call("PUT", here(institution, "pathway"), {"kinds": ["weights"]})
    assert (status, problem["code"]) == (403, "scope_missing")
