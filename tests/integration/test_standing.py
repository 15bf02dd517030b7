"""Where an institution stands, and what it may do: against a small oracle, and through every door that asks."""

from datetime import date, timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from contributions import services as contributions
from jobs import tasks
from jobs.models import Run
from portal.agreements import services
from portal.agreements.models import SigningRequest
from portal.agreements.standing import judged
from portal.institutions.models import Institution
from tests import factories

Action = services.Action
DAY = timedelta(days=1)
days = st.dates(min_value=date(2026, 1, 1), max_value=date(2027, 12, 31))


def oracle(*, expires_on, material, reconsent_days, grace_days, today) -> str:
    """Say the same day by day: walk from the first day to today, and stop at the first thing that stops work."""
    day, stopped = date(2026, 1, 1), ""
    while day <= today:
        if expires_on and day == expires_on + DAY:
            return "expired"
        if any(day == asked + (reconsent_days + grace_days + 1) * DAY for asked in material):
            stopped = "blocked"
        day += DAY
    if stopped:
        return stopped
    if material:
        return "grace" if any(today > asked + reconsent_days * DAY for asked in material) else "reconsent_due"
    return "expiring" if expires_on and expires_on - today <= 60 * DAY else "active"


@given(
    expires_on=st.none() | days,
    material=st.lists(days, max_size=3),
    reconsent_days=st.integers(0, 120),
    grace_days=st.integers(0, 60),
    today=days,
)
def test_the_judgement_agrees_with_a_walk_through_the_days(expires_on, material, reconsent_days, grace_days, today):
    terms = {"expires_on": expires_on, "reconsent_days": reconsent_days, "grace_days": grace_days, "today": today}
    state, due_on, blocked_on = judged(material=material, **terms)
    assert state == oracle(material=material, **terms)
    if blocked_on:  # the day before, work goes on; on the day, it does not
        in_force = {"active", "expiring", "reconsent_due", "grace"}
        for moment, goes_on in ((blocked_on - DAY, True), (blocked_on, False)):
            assert (judged(material=material, **terms | {"today": moment})[0] in in_force) is goes_on
    else:
        assert state == "active"
    assert due_on is None or state != "active" or due_on == expires_on


@pytest.fixture
def agreement(programme):
    return programme.agreements.get()


def publish(agreement, *, days_ago: int, is_material: bool = True):
    now = timezone.now() - timedelta(days=days_ago)
    return services.publish(
        agreement, text=f"# {days_ago}\n", change_note="x", is_material=is_material, by=None, now=now
    )


def standing(institution, agreement, **later):
    return services.standing(institution, agreement, now=timezone.now() + timedelta(**later))


def decision(institution, action=Action.CONTRIBUTE_WEIGHTS, **later):
    found = services.may(institution, action, now=timezone.now() + timedelta(**later))
    return found.allowed, found.code


def test_each_step_of_a_case_has_its_answer(agreement):
    institution = factories.applied_institution("Volta Teaching Hospital")
    assert decision(institution) == (False, "not_member")
    institution = factories.admitted_institution("Kumasi Eye Centre")
    assert (standing(institution, agreement).state, decision(institution)) == ("none", (False, "agreement_required"))
    case = factories.draft_case(institution, agreement)
    assert (standing(institution, agreement).state, decision(institution)) == ("draft", (False, "agreement_waiting"))
    case = factories.sent_case(institution, agreement)
    for state, allowed, code in (("signing", False, "agreement_waiting"),) * 3 + (("active", True, ""),):
        assert (standing(institution, agreement).state, decision(institution)) == (state, (allowed, code))
        case = factories.signed_case(case, times=1)
    services.terminate(case, by=factories.person_of(institution), reason="x", now=timezone.now())
    assert (standing(institution, agreement).state, decision(institution)) == (
        "terminated", (False, "agreement_terminated"),
    )  # fmt: skip


def test_a_declined_or_withdrawn_case_is_as_if_none_were_there(agreement):
    institution = factories.admitted_institution("Volta Teaching Hospital")
    case = factories.sent_case(institution, agreement)
    services.decline(case, by=factories.person_of(institution), reason="x", now=timezone.now())
    assert standing(institution, agreement).state == "none"


@pytest.mark.parametrize(
    ("days_ago", "state", "code"),
    [(0, "reconsent_due", ""), (60, "reconsent_due", ""), (61, "grace", ""), (90, "grace", ""),
     (91, "blocked", "reconsent_overdue")],
)  # fmt: skip
def test_a_material_version_asks_then_waits_then_blocks(institution, agreement, days_ago, state, code):
    publish(agreement, days_ago=days_ago)
    place = standing(institution, agreement)
    assert (place.state, decision(institution)) == (state, (not code, code))
    assert place.blocked_on - place.due_on == timedelta(days=31)


def test_a_minor_version_asks_nothing_and_signing_the_new_one_settles_it(institution, agreement):
    publish(agreement, days_ago=200, is_material=False)
    assert standing(institution, agreement).state == "active"
    publish(agreement, days_ago=150)
    assert decision(institution) == (False, "reconsent_overdue")
    factories.signed_case(factories.sent_case(institution, agreement))
    assert (standing(institution, agreement).state, decision(institution)) == ("active", (True, ""))


def test_an_earlier_promise_counts_from_the_first_material_version(institution, agreement):
    publish(agreement, days_ago=91)
    publish(agreement, days_ago=1)
    assert standing(institution, agreement).state == "blocked"


def test_expiry_does_not_wait_for_the_sweep(programme):
    agreement = factories.agreement(programme, slug="yearly", months_valid=12)
    institution = factories.admitted_institution("Volta Teaching Hospital")
    case = factories.signed_case(factories.sent_case(institution, agreement))
    left = (case.expires_on - timezone.now().date()).days
    assert [standing(institution, agreement, days=left - n).state for n in (61, 60, 0, -1)] == [
        "active", "expiring", "expiring", "expired",
    ]  # fmt: skip
    assert case.status == "active"


def test_every_agreement_that_covers_the_kind_is_needed_and_no_other(institution, programme):
    factories.agreement(programme, slug="annex-images", covers=["images"])
    allowed = {action: services.may(institution, action, programme=programme, now=timezone.now()) for action in Action}
    assert {action.value: found.code for action, found in allowed.items()} == {
        "contribute_weights": "",
        "contribute_synthetic": "",
        "contribute_images": "agreement_required",
        "download": "",
    }
    assert allowed[Action.CONTRIBUTE_IMAGES].next_url == f"/agreements/sign/{institution.slug}/retina/annex-images/"


def test_a_programme_without_a_published_agreement_lets_nobody_in(institution):
    other = factories.programmes.create(
        slug="chest", name="Chest", modality="x-ray", description="", by=None, now=timezone.now()
    )
    services.create_agreement(other, slug="dua", title="DUA", by=None, now=timezone.now())
    found = services.may(institution, Action.CONTRIBUTE_WEIGHTS, programme=other, now=timezone.now())
    assert (found.allowed, found.code) == (False, "agreement_required")
    assert decision(institution) == (True, "")  # in the programme whose agreement it signed


def test_the_agreement_of_one_programme_says_nothing_about_another(institution):
    other = factories.programme("chest")
    found = services.may(institution, Action.CONTRIBUTE_WEIGHTS, programme=other, now=timezone.now())
    assert (found.code, found.next_url) == (
        "agreement_required", f"/agreements/sign/{institution.slug}/chest/data-use-agreement/",
    )  # fmt: skip


def test_a_covered_hospital_counts_only_once_it_has_confirmed(agreement):
    signs = factories.admitted_institution("Volta Teaching Hospital")
    covered = factories.admitted_institution("Kumasi Eye Centre")
    case = factories.draft_case(signs, agreement, covered=[covered])
    assert standing(covered, agreement).state == "none"
    services.confirm_cover(case.covered.get(), by=factories.person_of(covered), now=timezone.now())
    assert standing(covered, agreement).state == "draft"


# The kinds that were signed for

KINDS_TEXT = "# Data-use agreement\n\n{{ kinds }}\n"
WEIGHTS, SYNTHETIC = "generator weights", "synthetic images made by the institution"


def sign_for(institution, agreement, *kinds):
    """Have the institution sign a text that names these kinds."""
    if services.newest_of(agreement).text != KINDS_TEXT:
        services.publish(agreement, text=KINDS_TEXT, change_note="Names kinds.", by=None, now=timezone.now())
    return factories.signed_case(factories.sent_case(institution, agreement, variables={"kinds": kinds}))


@pytest.mark.parametrize(
    ("signed", "allowed"),
    [
        ([WEIGHTS], {"weights"}),
        ([SYNTHETIC, "de-identified photographs"], {"synthetic", "images"}),
        (["synthetic"], {"synthetic"}),  # by its slug
        ([f"{WEIGHTS}; {SYNTHETIC}"], {"weights", "synthetic"}),  # as the text parts them
        (["whatever we like"], {"weights", "synthetic", "images"}),  # words of its own, which only people read
    ],
)
def test_only_kinds_that_were_signed_for_may_be_sent(institution, agreement, signed, allowed):
    sign_for(institution, agreement, *signed)
    found = {kind: decision(institution, action) for kind, action in services.ACTION_OF_KIND.items()}
    assert found == {
        kind: (True, "") if kind in allowed else (False, "kind_not_signed") for kind in services.ACTION_OF_KIND
    }
    assert decision(institution, Action.DOWNLOAD) == (True, "")  # images are drawn from a base model too


def test_the_refusal_says_what_was_signed_and_where_to_sign_again(institution, agreement):
    sign_for(institution, agreement, SYNTHETIC)
    found = services.may(institution, Action.CONTRIBUTE_WEIGHTS, now=timezone.now())
    assert found.reason == (
        f"{institution} signed the data-use agreement for {SYNTHETIC}, not for {WEIGHTS}. Prepare it again with this "
        "kind and have it signed; everything you have begun is kept."
    )
    assert found.next_url == f"/agreements/prepare/{institution.slug}/retina/data-use-agreement/"
    sign_for(institution, agreement, SYNTHETIC, WEIGHTS)
    assert decision(institution) == (True, "")


def test_a_text_that_names_no_kinds_limits_none(institution):
    assert "kinds" not in institution.signing_requests.get().variables
    assert [decision(institution, action) for action in Action] == [(True, "")] * len(Action)


def test_what_covers_a_hospital_adds_to_what_it_signed_itself(institution, agreement):
    signs = factories.admitted_institution("Volta Teaching Hospital")
    sign_for(institution, agreement, WEIGHTS)
    case = factories.draft_case(signs, agreement, variables={"kinds": [SYNTHETIC]}, covered=[institution])
    services.confirm_cover(case.covered.get(), by=factories.person_of(institution), now=timezone.now())
    assert decision(institution, Action.CONTRIBUTE_SYNTHETIC) == (False, "kind_not_signed")
    factories.person_of(signs, factories.Role.SIGNING_OFFICIAL)
    factories.signed_case(services.send(case, by=factories.person_of(signs), now=timezone.now()))
    assert decision(institution, Action.CONTRIBUTE_SYNTHETIC) == decision(institution) == (True, "")
    assert decision(signs) == (False, "kind_not_signed")


# Every door asks


@pytest.fixture
def blocked(institution, agreement):
    """Block the institution: a material version was due long ago."""
    return lambda: publish(agreement, days_ago=91)


def test_new_uploads_stop_and_what_is_there_stays(institution, steward, board, blocked):
    contribution = factories.draft_contribution(institution)
    file = factories.upload(contribution, b"bytes")
    announced = factories.draft_contribution(institution, title="Second")
    other = contributions.add_file(
        announced, name="b.safetensors", size_bytes=3, parts_sha256="0" * 64, by=steward, now=timezone.now()
    )
    blocked()
    announcement = {"name": "a.safetensors", "size_bytes": 4, "parts_sha256": "1" * 64}
    for step in (
        lambda: contributions.add_file(announced, **announcement, by=steward, now=timezone.now()),
        lambda: contributions.sign_parts(other, [(1, "x" * 44)], by=steward),
        lambda: contributions.complete_file(other, sha256="0" * 64, by=steward, now=timezone.now()),
        lambda: contributions.submit(contribution, by=steward, now=timezone.now()),
    ):
        with pytest.raises(services.AgreementRequired) as refusal:
            step()
        assert refusal.value.code == "reconsent_overdue"
    file.refresh_from_db()
    assert file.state == "uploaded"
    contributions.remove_file(other, by=steward)  # taking away is always possible


def test_a_kind_that_was_not_signed_for_passes_no_door(institution, steward, board, agreement, sign_in):
    contribution = factories.draft_contribution(institution)
    factories.upload(contribution, b"bytes")
    second = factories.draft_contribution(institution, title="Second")
    sign_for(institution, agreement, SYNTHETIC)
    for step in (lambda: factories.upload(second, b"more"), lambda: submit(contribution, steward)):
        with pytest.raises(services.AgreementRequired, match="signed the data-use agreement for synthetic") as refusal:
            step()
        assert refusal.value.code == "kind_not_signed"
    page = sign_in(steward).get(f"/contributions/{second.pk}/files/").text
    assert f"not for {WEIGHTS}" in page
    assert f'href="/agreements/prepare/{institution.slug}/retina/data-use-agreement/"' in page
    sign_for(institution, agreement, SYNTHETIC, WEIGHTS)
    assert submit(contribution, steward).status == "submitted"


def submit(contribution, steward):
    return contributions.submit(contribution, by=steward, now=timezone.now())


@pytest.mark.django_db(transaction=True)
def test_the_worker_refuses_a_kind_that_was_not_signed_for(institution, board, agreement):
    contribution = factories.submitted_contribution(institution)
    sign_for(institution, agreement, SYNTHETIC)
    tasks.validate_contribution(contribution_id=contribution.pk)
    tasks.execute_run(run_id=Run.objects.get(subject_id=contribution.pk).pk)
    contribution.refresh_from_db()
    found = contribution.check_results.get()
    assert (found.number, found.verdict, found.evidence) == (3, "fail", {"code": "kind_not_signed"})
    assert (contribution.status, f"not for {WEIGHTS}" in contribution.reason) == ("rejected", True)


@pytest.mark.django_db(transaction=True)
def test_the_worker_asks_again_before_it_reads_a_byte(institution, board, blocked):
    contribution = factories.submitted_contribution(institution)
    blocked()
    tasks.validate_contribution(contribution_id=contribution.pk)
    tasks.execute_run(run_id=Run.objects.get(subject_id=contribution.pk).pk)
    contribution.refresh_from_db()
    assert list(contribution.check_results.values_list("number", "name", "verdict")) == [(3, "agreement", "fail")]
    assert (contribution.status, "has not signed the new version" in contribution.reason) == ("rejected", True)


def test_base_models_are_for_people_whose_agreement_is_in_force(
    sign_in, institution, member, researcher, operator, blocked
):
    base = factories.base_model(institution.signing_requests.get().agreement.programme)
    url = f"/api/v1/base-models/{base.pk}/download"

    def answer(user):
        response = sign_in(user).get(url)
        return response.status_code, response.json()["code"] if response.status_code == 403 else ""

    assert [answer(user) for user in (member, researcher, operator)] == [(307, ""), (403, "not_member"), (307, "")]
    blocked()
    assert [answer(user) for user in (member, operator)] == [(403, "reconsent_overdue"), (307, "")]


# Cost


def test_many_institutions_and_agreements_cost_the_same_queries(programme, agreement, django_assert_num_queries):
    institution = factories.member_institution("Volta Teaching Hospital")
    extra = [factories.agreement(programme, slug=f"annex-{number}") for number in range(3)]
    for parties, agreements in (([institution], [agreement]), (list(Institution.objects.all()), [agreement, *extra])):
        with django_assert_num_queries(3):
            assert len(services.standings(parties, agreements, now=timezone.now())) == len(parties) * len(agreements)
    assert SigningRequest.objects.count() == 1
