"""Pages of agreements: the way from the list to an agreement in force, what blocks it, and what it costs."""

import pytest
from django.urls import reverse
from django.utils import timezone
from icalendar import Calendar

from portal.agreements import actions, services, terms
from portal.agreements.models import SigningRequest
from tests import factories

TEXT = "# Agreement\n\n{{ institution }}; {{ kinds }}; {{ use_codes }}; {{ covered }}; {{ expires_on }}\n"
Role = factories.Role


@pytest.fixture
def agreement(programme):
    return factories.agreement(programme, slug="full", text=TEXT, months_valid=24)


@pytest.fixture
def volta(programme):
    """A member institution whose three people have passwords and have signed nothing."""
    institution = factories.admitted_institution("Volta Teaching Hospital", country="GH")
    for role in (Role.PRINCIPAL_INVESTIGATOR, Role.SIGNING_OFFICIAL):
        person = factories.person_of(institution, role)
        person.set_password(factories.PASSWORD)
        person.save()
    return institution


@pytest.fixture
def case(agreement, volta):
    return factories.sent_case(volta, agreement)


def given(**changes):
    return {"institution": "Volta Trust", "kinds": ["weights"], "use_codes": ["HMB", "NCU"]} | changes


def signing_form(case, person, **changes):
    """Return what a person types, password and code of the second factor included."""
    proof = {"password": factories.PASSWORD, "code": factories.totp_code(person)}
    return {"text_sha256": case.text_sha256, "typed_name": person.name, "authority": "on"} | proof | changes


def with_password(person):
    person.set_password(factories.PASSWORD)
    person.save()
    return person


def test_three_people_bring_an_agreement_in_force_through_the_pages(sign_in, agreement, volta):
    investigator = with_password(factories.person_of(volta))
    client = sign_in(investigator)
    page = client.get(reverse("agreements:sign", args=[volta.slug, "retina", "full"]), follow=True)
    assert "Legal name of the institution" in page.text
    page = client.post(page.redirect_chain[-1][0], given(), follow=True)
    case = SigningRequest.objects.get(institution=volta)
    assert "HMB (health or medical or biomedical research, DUO:0000006)" in page.text
    assert (terms.kinds_of(case), terms.codes_of(case)) == ({"weights"}, ["HMB", "NCU"])
    client.post(reverse("agreements:send", args=[case.pk]))
    signers = [with_password(factories.person_of(volta, Role.SIGNING_OFFICIAL)), with_password(factories.signatory())]
    for person in [investigator, *signers]:
        url = reverse("agreements:sign_case", args=[case.pk])
        page = sign_in(person).post(url, signing_form(case, person), follow=True)
        assert page.status_code == 200
    case.refresh_from_db()
    methods = [row.authentication for row in case.signatures.all()]
    assert (case.status, methods) == ("active", [["password", "totp"]] * 3)
    assert page.redirect_chain[-1][0] == case.receipt_url


@pytest.mark.parametrize(
    ("field", "wrong"), [("password", "wrong"), ("password", ""), ("code", "000000"), ("code", "")]
)
def test_a_signature_without_both_proofs_changes_nothing(sign_in, case, volta, field, wrong):
    person = with_password(factories.person_of(volta))
    url = reverse("agreements:sign_case", args=[case.pk])
    page = sign_in(person).post(url, signing_form(case, person) | {field: wrong})
    assert (page.status_code, list(page.context["form"].errors)) == (422, [field])
    assert case.signatures.count() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"typed_name": "Somebody"}, "Type your name as it stands on your account"),
        ({"authority": ""}, "This field is required"),
        ({"text_sha256": "0" * 64}, "The text was changed while you read"),
    ],
)
def test_what_is_wrong_in_the_form_is_said_beside_it(sign_in, case, volta, changes, message):
    person = factories.person_of(volta)
    page = sign_in(person).post(reverse("agreements:sign_case", args=[case.pk]), signing_form(case, person, **changes))
    assert (page.status_code, message in page.text) == (422, True)


def test_a_link_that_is_only_followed_changes_nothing(sign_in, case, volta):
    client = sign_in(factories.person_of(volta))
    for name in ("case", "sign_case", "decline", "withdraw"):
        assert client.get(reverse(f"agreements:{name}", args=[case.pk])).status_code == 200
    case.refresh_from_db()
    assert (case.status, case.signatures.count()) == ("signing", 0)


def test_a_late_link_leads_to_the_case(sign_in, case, volta):
    factories.signed_case(case)
    official = factories.person_of(volta, Role.SIGNING_OFFICIAL)
    assert sign_in(official).get(reverse("agreements:sign_case", args=[case.pk])).headers["Location"] == (
        case.get_absolute_url()
    )


def test_codes_that_exclude_each_other_are_refused(sign_in, agreement, volta):
    url = reverse("agreements:prepare", args=[volta.slug, "retina", "full"])
    page = sign_in(factories.person_of(volta)).post(url, given(use_codes=["GRU", "HMB"]))
    assert (page.status_code, "Choose one of" in page.text) == (422, True)
    assert not SigningRequest.objects.filter(institution=volta).exists()


def test_strangers_do_not_learn_that_a_case_is_there(sign_in, case, outsider, researcher):
    for person in (outsider, researcher):
        assert sign_in(person).get(case.get_absolute_url()).status_code == 404
        assert "Volta" not in sign_in(person).get(reverse("agreements:cases")).text


def test_declining_needs_a_reason_and_shows_it(sign_in, case, volta):
    client = sign_in(factories.person_of(volta, Role.SIGNING_OFFICIAL))
    url = reverse("agreements:decline", args=[case.pk])
    assert client.post(url, {"reason": " "}).status_code == 422
    page = client.post(url, {"reason": "Clause 8 is not ours."}, follow=True)
    assert "Clause 8 is not ours." in page.text


def test_terminating_lists_effects_and_wants_the_title(sign_in, institution):
    case = institution.signing_requests.get()
    client = sign_in(factories.person_of(institution, Role.SIGNING_OFFICIAL))
    url = reverse("agreements:terminate", args=[case.pk])
    assert "Corpora that hold them" in client.get(url).text
    assert client.post(url, {"reason": "Over.", "title": "data use"}).status_code == 422
    client.post(url, {"reason": "Over.", "title": "data-use agreement"})
    case.refresh_from_db()
    assert case.status == "terminated"


def test_the_queue_shows_what_waits_for_the_consortium_the_longest_wait_first(sign_in, agreement, volta, case):
    other = factories.admitted_institution("Kumasi Eye Centre", country="GH")
    second = factories.signed_case(factories.sent_case(other, agreement), times=2)
    client = sign_in(factories.signatory())
    url = reverse("agreements:countersign")
    assert [row[0].pk for row in client.get(url).context["waiting"]] == [second.pk]
    factories.signed_case(case, times=2)
    assert [row[0].pk for row in client.get(url).context["waiting"]] == [second.pk, case.pk]
    factories.sign_next(second)
    assert [row[0].pk for row in client.get(url).context["waiting"]] == [case.pk]


def test_the_calendar_file_holds_the_last_day_and_an_alarm(sign_in, case, volta):
    factories.signed_case(case)
    answer = sign_in(factories.person_of(volta)).get(reverse("agreements:expiry_ics", args=[case.pk]))
    assert answer.headers["Content-Type"] == "text/calendar"
    lines = answer.content.decode().split("\r\n")
    assert f"DTSTART;VALUE=DATE:{case.expires_on:%Y%m%d}" in lines
    assert "TRIGGER:-P30D" in lines


def test_the_actions_are_those_that_the_services_allow(case, volta, outsider, institution):
    now = timezone.now()
    investigator, official = factories.person_of(volta), factories.person_of(volta, Role.SIGNING_OFFICIAL)

    def names(person):
        return [(row.name, row.allowed) for row in actions.available(case, person, now=now)]

    assert names(investigator) == [("sign", True), ("withdraw", True), ("decline", True)]
    assert names(official) == [("sign", False), ("withdraw", True), ("decline", True)]
    assert names(outsider) == []
    factories.signed_case(case)
    case.refresh_from_db()
    assert names(official) == [("terminate", True)]
    services.publish(case.agreement, text="# New\n", change_note="x", by=None, now=now)
    assert names(official) == [("renew", True), ("terminate", True)]
    assert names(factories.signatory()) == [("terminate", True)]


def test_lists_cost_the_same_queries_with_ten_and_a_thousand_rows(
    sign_in, institution, steward, auditor, django_assert_max_num_queries
):
    case = institution.signing_requests.get()
    clients = [(sign_in(steward), reverse("agreements:list")), (sign_in(auditor), reverse("agreements:cases"))]

    def copies(count, start):
        SigningRequest.objects.bulk_create(
            SigningRequest(
                agreement_id=case.agreement_id, agreement_version_id=case.agreement_version_id, institution=institution,
                text=case.text, text_sha256=case.text_sha256, started_by=steward, receipt_code=f"{start + number:020x}",
            )
            for number in range(count)
        )  # fmt: skip

    from django.db import connection

    with connection.cursor() as cursor:  # a thousand drafts of one institution exist only in this test
        cursor.execute("DROP INDEX one_open_request")
    counts = []
    for count, start in ((10, 0), (990, 100)):
        copies(count, start)
        with django_assert_max_num_queries(40) as queries:
            for client, url in clients:
                assert client.get(url).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_last_day_comes_as_a_calendar_file(sign_in, case, volta):
    case = factories.signed_case(case)
    url = reverse("agreements:expiry_ics", args=[case.pk])
    answer = sign_in(factories.person_of(volta)).get(url)
    assert answer.headers["Content-Type"] == "text/calendar"
    (event,) = Calendar.from_ical(answer.content).walk("VEVENT")
    assert event.decoded("DTSTART") == case.expires_on
    assert str(event["UID"]) == f"agreement-{case.receipt_code}@127.0.0.1"
    assert str(event["SUMMARY"]) == f"Last day: {case}"
    assert [alarm.decoded("TRIGGER").days for alarm in event.walk("VALARM")] == [-30]
