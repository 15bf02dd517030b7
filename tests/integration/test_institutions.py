"""Institutions: the public list, the application, the people, the invitations."""

import re

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from portal.agreements import services as agreements
from portal.errors import NotAllowed
from portal.institutions import memberships, onboarding, ror, services
from portal.institutions.models import Institution, Invitation, Membership
from portal.lifecycle import TransitionNotAllowed
from tests import factories
from tests.log import verbs_in_file

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


# Public list and page


def test_public_list_shows_members_by_region_and_nothing_else(client, programme):
    factories.admitted_institution("Moi Eye Clinic", country="KE")
    factories.admitted_institution("Andes Retina", country="PE")
    factories.applied_institution("Levante Ophthalmology", country="ES")
    factories.draft_institution("Niger Delta Eye Foundation", country="NG")
    response = client.get(reverse("institutions:list"))
    assert [(row["region"], row["institution"].name) for row in response.context["institutions"]] == [
        ("Eastern Africa", "Moi Eye Clinic"),
        ("South America", "Andes Retina"),
    ]
    assert "Levante" not in response.text
    assert "Niger Delta" not in response.text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"q": "retina"}, ["Andes Retina"]),
        ({"q": "клиника"}, ["Volga Clinic"]),
        ({"country": "PE"}, ["Andes Retina"]),
        ({"region": "151"}, ["Volga Clinic"]),
        ({"q": "retina", "country": "RU"}, []),
        ({"page": "2"}, []),
        ({"page": "x"}, ["Volga Clinic", "Andes Retina"]),
    ],
)
def test_public_list_narrows(client, programme, query, names):
    factories.admitted_institution("Andes Retina", country="PE")
    factories.admitted_institution("Volga Clinic", country="RU", local_name="Волжская клиника")
    response = client.get(reverse("institutions:list"), query)
    assert [row["institution"].name for row in response.context["institutions"]] == names


def test_public_list_pages_without_counting(client, programme, monkeypatch):
    monkeypatch.setattr("portal.institutions.views.PAGE_SIZE", 2)
    for name in ("A", "B", "C"):
        factories.admitted_institution(f"Clinic {name}")
    first, second = (client.get(reverse("institutions:list"), {"page": page}) for page in (1, 2))
    assert [row["institution"].name for row in first.context["institutions"]] == ["Clinic A", "Clinic B"]
    assert [row["institution"].name for row in second.context["institutions"]] == ["Clinic C"]
    assert (first.context["next_page"], second.context["next_page"]) == (2, 0)


@pytest.mark.parametrize("item_count", [10, 1000])
def test_public_list_needs_the_same_queries_for_any_number(client, programme, item_count, django_assert_num_queries):
    Institution.objects.bulk_create(
        Institution(
            slug=f"clinic-{n}", name=f"Clinic {n}", country="KE", subregion="014", kind="hospital", status="member"
        )
        for n in range(item_count)
    )
    with django_assert_num_queries(1):
        response = client.get(reverse("institutions:list"))
    assert len(response.context["institutions"]) == min(item_count, 50)


def test_public_page_of_a_member_holds_no_personal_data(client, institution, steward):
    response = client.get(institution.get_absolute_url())
    assert response.status_code == 200
    assert institution.name in response.text
    for person in services.people(institution):
        assert person.email not in response.text
        assert person.name not in response.text
    assert "History" not in response.text


@pytest.mark.parametrize(
    ("who", "status"),
    [("nobody", 404), ("outsider", 404), ("own", 200), ("board_member", 200), ("auditor", 200), ("researcher", 404)],
)
def test_an_application_is_seen_by_its_people_and_the_consortium(request, client, sign_in, programme, who, status):
    institution = factories.applied_institution("Lake Hospital")
    if who == "own":
        client = sign_in(factories.person_of(institution))
    elif who != "nobody":
        client = sign_in(request.getfixturevalue(who))
    assert client.get(institution.get_absolute_url()).status_code == status


def test_a_draft_is_seen_by_its_people_only(sign_in, programme, board_member, auditor):
    institution = factories.draft_institution("Lake Hospital")
    people = [factories.person_of(institution), board_member, auditor]
    assert [sign_in(person).get(institution.get_absolute_url()).status_code for person in people] == [200, 404, 404]


def test_a_board_member_with_two_roles_in_the_applicant_gets_one_page(sign_in, programme, board_member, now):
    institution = factories.applied_institution("Lake Hospital")
    investigator = factories.person_of(institution)
    for role in (Role.MEMBER, Role.STEWARD):
        Membership.objects.create(user=board_member, institution=institution, role=role, started_at=now)
    assert sign_in(board_member).get(institution.get_absolute_url()).status_code == 200
    assert sign_in(investigator).get(institution.get_absolute_url()).status_code == 200


# Application


def test_an_application_goes_from_the_form_to_the_board(sign_in, researcher):
    client = sign_in(researcher)
    response = client.post(reverse("institutions:begin"), BEGIN)
    institution = Institution.objects.get()
    assert response.headers["Location"] == reverse("institutions:team", args=["lake-hospital"])
    assert (institution.ror_id, institution.subregion, institution.status) == ("04cpxjv19", "014", "draft")
    saved = client.post(reverse("institutions:edit", args=["lake-hospital"]), PROFILE)
    review = client.get(saved.headers["Location"])
    assert "Eastern Africa" in review.text
    assert review.context["advice"].kind == "weights"
    assert [label for label, _ in review.context["missing"]][:2] == ["Population served", "Where the images are taken"]
    client.post(reverse("institutions:submit", args=["lake-hospital"]))
    institution.refresh_from_db()
    assert (institution.status, institution.round, institution.image_count) == ("applied", 1, 1200)
    assert verbs_in_file(institution) == ["institution.drafted", "membership.started", "institution.applied"]


def test_the_form_says_what_is_wrong_and_keeps_what_was_typed(sign_in, researcher):
    response = sign_in(researcher).post(
        reverse("institutions:begin"), BEGIN | {"ror_id": "04cpxjv18", "country": "", "website": "no address"}
    )
    assert response.status_code == 422
    assert sorted(response.context["form"].errors) == ["country", "ror_id", "website"]
    assert "Bahir Dar" in response.text
    assert Institution.objects.count() == 0


def test_a_ror_id_applies_once_at_a_time_and_offers_to_ask(sign_in, researcher, programme):
    first = factories.draft_institution("First", ror_id="04cpxjv19")
    client = sign_in(researcher)
    response = client.post(reverse("institutions:begin"), BEGIN)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["ror_id"]
    assert Institution.objects.count() == 1
    ask = reverse("institutions:ask", args=[first.slug])
    assert client.get(ask).status_code == 404  # nobody learns of a draft by its address
    assert client.get(ask, {"offer": response.context["offer"]}).status_code == 200
    assert sign_in(factories.user("Else")).get(ask, {"offer": response.context["offer"]}).status_code == 404


def test_a_ror_id_is_free_again_after_a_withdrawal(sign_in, researcher, programme):
    first = factories.draft_institution("First", ror_id="04cpxjv19")
    services.withdraw(first, by=factories.person_of(first), now=timezone.now())
    assert sign_in(researcher).post(reverse("institutions:begin"), BEGIN).status_code == 302


def test_names_in_other_scripts_and_reserved_names_get_an_address(programme):
    slugs = [factories.draft_institution(name).slug for name in ("长江眼科医院", "मोई", "Mine", "Apply")]
    assert slugs == ["institution", "institution-2", "mine-2", "apply-2"]


def test_the_region_follows_a_changed_country(sign_in, programme):
    institution = factories.draft_institution("Lake Hospital", country="KE")
    client = sign_in(factories.person_of(institution))
    changed = {**PROFILE, "country": "PE"}
    assert client.post(reverse("institutions:edit", args=[institution.slug]), changed).status_code == 302
    institution.refresh_from_db()
    assert (institution.country, institution.subregion, institution.name) == ("PE", "005", "Lake Hospital")


def test_the_profile_is_fixed_while_the_board_votes(sign_in, programme):
    institution = factories.applied_institution("Lake Hospital")
    person = factories.person_of(institution)
    response = sign_in(person).post(reverse("institutions:edit", args=[institution.slug]), PROFILE)
    assert response.headers["Location"] == institution.get_absolute_url()
    with pytest.raises(NotAllowed):
        services.change_profile(institution, by=person, name="Other")
    institution.refresh_from_db()
    assert institution.city == ""


def test_an_application_needs_a_principal_investigator(sign_in, researcher):
    client = sign_in(researcher)
    client.post(reverse("institutions:begin"), BEGIN | {"role": "steward"})
    assert "Send the application" in client.get(reverse("institutions:review", args=["lake-hospital"])).text
    client.post(reverse("institutions:submit", args=["lake-hospital"]))
    assert Institution.objects.get().status == "draft"


def test_an_application_is_withdrawn_after_asking(sign_in, programme):
    institution = factories.applied_institution("Lake Hospital")
    client = sign_in(factories.person_of(institution))
    url = reverse("institutions:withdraw", args=[institution.slug])
    assert client.get(url).status_code == 200
    institution.refresh_from_db()
    assert institution.status == "applied"
    client.post(url)
    institution.refresh_from_db()
    assert institution.status == "withdrawn"


def test_a_member_cannot_withdraw_its_application(institution):
    with pytest.raises(TransitionNotAllowed):
        services.withdraw(institution, by=factories.person_of(institution), now=timezone.now())


@pytest.mark.parametrize("name", ["edit", "submit", "withdraw", "invite", "add_role"])
def test_only_managers_change_an_institution(sign_in, institution, member, outsider, name):
    url = reverse(f"institutions:{name}", args=[institution.slug])
    data = PROFILE | {"email": "x@example.org", "person": member.pk}
    assert [sign_in(person).post(url, data).status_code for person in (member, outsider)] == [403, 403]
    institution.refresh_from_db()
    assert (institution.name, institution.status) == ("Moi Eye Clinic", "member")
    assert not Invitation.objects.filter(email="x@example.org").exists()


def test_the_checklist_follows_what_was_done(sign_in, programme):
    institution = factories.admitted_institution("Lake Hospital")
    client = sign_in(factories.person_of(institution))
    url = reverse("institutions:onboarding", args=[institution.slug])
    done = {step.name for step, _, _ in client.get(url).context["steps"] if step.done}
    assert done == {"address", "factor", "sent", "vetting", "admitted"}
    assert client.get(url).context["standing"].holder == "The institution"
    factories.sign_agreement(institution)
    page = client.get(url)
    assert {step.name for step, _, _ in page.context["steps"] if step.done} - done == {"people", "agreement"}
    assert page.context["standing"].holder == "The institution"
    assert (page.context["done"], page.context["total"]) == (7, 9)


def test_who_has_the_agreement_follows_its_signers(sign_in, programme):
    institution = factories.admitted_institution("Lake Hospital")
    factories.person_of(institution, "signing_official")
    agreement, told = programme.agreements.get(), []

    def note() -> None:
        place = onboarding.standing(institution)
        told.append((place.holder, place.next_step))

    note()
    case = factories.draft_case(institution, agreement)
    note()
    factories.signatory()
    agreements.send(case, by=factories.person_of(institution), now=timezone.now())
    note()
    for _ in range(3):
        factories.signed_case(case, times=1)
        note()
    assert told == [
        ("The institution", "Prepare the agreement"),
        ("The institution", "Send the agreement to its signers"),
        ("The principal investigator", "Read and sign the agreement"),
        ("The signing official", "Read and sign the agreement"),
        ("The consortium", "Read and sign the agreement"),
        ("The institution", "Make the first contribution"),
    ]


def test_the_history_tells_neither_votes_nor_other_institutions(sign_in, programme, board):
    from governance.board import services as boards

    institution = factories.applied_institution("Lake Hospital")
    factories.applied_institution("Hill Hospital")
    motion = boards.refer_institution(institution.pk, now=timezone.now())
    factories.vote_all(motion)
    page = sign_in(factories.person_of(institution)).get(institution.get_absolute_url())
    assert [event.verb for event in page.context["history"]] == [
        "institution.admitted",
        "motion.carried",
        "motion.opened",
        "institution.applied",
        "membership.started",
        "institution.drafted",
    ]
    assert all(member.name not in page.text for member in board)
    assert "Hill Hospital" not in page.text


def test_the_region_fragment_answers_for_a_country(client, db):
    assert "Eastern Africa" in client.get(reverse("institutions:region"), {"country": "KE"}).text
    assert client.get(reverse("institutions:region"), {"country": "??"}).text.strip() == ""


# Constraints of the database


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("institution_status_known", {"status": "friend"}),
        ("institution_naming_known", {"naming": "perhaps"}),
        ("institution_country_alpha2", {"country": "ke"}),
        ("institution_ror_id", {"ror_id": "04cpxjvi9"}),
        ("institutions_institution_slug", {"slug": "andes-retina"}),
        ("one_live_institution_per_ror_id", {"ror_id": "02jx3x895"}),
    ],
)
def test_the_database_refuses_an_impossible_institution(institution, constraint, changes):
    factories.draft_institution("Andes Retina", ror_id="02jx3x895")
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Institution.objects.filter(pk=institution.pk).update(**changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("membership_role_known", {"role": "friend"}),
        ("one_current_membership_per_role", {"role": "principal_investigator"}),
    ],
)
def test_the_database_refuses_an_impossible_membership(institution, constraint, changes, now):
    investigator = factories.person_of(institution)
    row = Membership.objects.create(user=investigator, institution=institution, role="member", started_at=now)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Membership.objects.filter(pk=row.pk).update(**changes)


def test_the_database_refuses_an_impossible_invitation(institution, steward, now):
    row = Invitation.objects.get(accepted_by=steward)
    for constraint, changes in [
        ("invitation_accepted_at_iff_by", {"accepted_at": None}),
        ("invitation_accepted_at_iff_by", {"accepted_by": None}),
        ("invitation_ended_one_way", {"withdrawn_at": now}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Invitation.objects.filter(pk=row.pk).update(**changes)
    other, _ = memberships.invite(
        institution, email="x@example.org", role="member", by=factories.person_of(institution), now=now
    )
    with pytest.raises(IntegrityError, match="digest"), transaction.atomic():
        Invitation.objects.filter(pk=other.pk).update(digest=row.digest)


@pytest.mark.parametrize(
    ("given", "valid"),
    [
        ("04cpxjv19", True),
        ("02jx3x895", True),
        ("04cpxjv18", False),
        ("14cpxjv19", False),
        ("04cpxjvi9", False),
        ("", False),
        ("04CPXJV19", False),
    ],
)
def test_a_ror_id_is_checked_by_its_digits(given, valid):
    assert ror.is_valid(given) is valid


def test_a_ror_id_is_taken_from_an_address():
    assert {ror.normalise(text) for text in (" https://ror.org/04CPXJV19/ ", "ror.org/04cpxjv19")} == {"04cpxjv19"}
