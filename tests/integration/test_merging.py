"""A member that becomes an alias of another."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from contributions import deletion, embargo, holds, reports
from contributions import services as contributions
from contributions.models import Contribution
from governance.board import conflicts
from governance.board import services as boards
from jobs import gather
from portal.agreements import services as agreements
from portal.agreements.services import AgreementRequired
from portal.errors import NotAllowed
from portal.institutions import actions, memberships, merging, services
from portal.institutions.leaving import MergedMeanwhile
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership
from portal.programmes import services as programmes
from tests import contributing, factories
from tests.hostile import honest
from tests.integration.test_validation import check
from tests.races import beside, then, until_somebody_waits

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
        contributions.add_file(draft, name="a", size_bytes=1, parts_sha256="0" * 64, by=manager, now=timezone.now())
    with pytest.raises(AgreementRequired, match="is now part of Great Eye Hospital"):
        contributions.submit(draft, by=manager, now=timezone.now())
    corrected = contributions.replace(contribution, by=manager, now=timezone.now())
    assert (corrected.institution, corrected.supersedes) == (into, contribution)


@pytest.fixture
def into(programme) -> Institution:
    return factories.member_institution("Great Eye Hospital")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)  # the heartbeat has a connection of its own
def test_what_was_sent_before_is_checked_under_the_agreement_it_was_sent_under(institution, into, board, operator):
    contribution = factories.submitted_contribution(institution, honest())
    merging.merge(institution, into, by=operator, now=timezone.now())
    contribution = check(contribution)
    agreed = contribution.check_results.get(name="agreement")
    assert (contribution.status, agreed.verdict, agreed.sentence) == (
        "review", "pass", f"The agreement of {institution} is in force.",
    )  # fmt: skip


@pytest.mark.services
def test_its_weights_are_no_others_to_the_institution_that_took_it_over(institution, into, operator, tmp_path):
    before = factories.reviewed_contribution(institution, b"what it sent before" * 50)
    contributions.approve(before.pk, by=None, now=timezone.now())
    reports.add_evidence(before, run_id=1, attempt=1, name=gather.FEATURES, content=b"features")
    theirs = factories.submitted_contribution(into, b"what the other sends" * 50)
    (tmp_path / "after").mkdir()
    assert len(list(gather._others(theirs, tmp_path).iterdir())) == 1
    merging.merge(institution, into, by=operator, now=timezone.now())
    theirs.refresh_from_db()
    assert list(gather._others(theirs, tmp_path / "after").iterdir()) == []


@pytest.mark.django_db(transaction=True)  # as above
def test_it_is_refused_where_that_agreement_has_ended_since(institution, into, operator):
    contribution = factories.submitted_contribution(institution)
    official = factories.person_of(institution, Role.SIGNING_OFFICIAL)
    case = institution.signing_requests.get()
    agreements.terminate(case, by=official, reason="We join another.", now=timezone.now())
    merging.merge(institution, into, by=operator, now=timezone.now())
    contribution = check(contribution)
    agreed = contribution.check_results.get(name="agreement")
    assert (contribution.status, agreed.verdict, agreed.evidence["code"]) == (
        "rejected", "fail", "agreement_terminated",
    )  # fmt: skip
    assert agreed.fix == (
        "Bring an agreement of Great Eye Hospital for this kind in force, then start a corrected contribution."
    )
    manager = factories.person_of(into)
    assert contributions.replace(contribution, by=manager, now=timezone.now()).institution == into


def test_a_ballot_of_the_receiving_institution_does_not_count_when_the_motion_closes(
    institution, into, board, operator
):
    motion = factories.reviewed_contribution(institution).motions.get()
    factories.join(into, board[1])
    factories.review_all(motion)
    motion.refresh_from_db()
    for voter in board[:2]:
        factories.cast(motion, voter, "abstain", "Let the others say.")
    assert boards.count(motion, now=timezone.now()).abstentions == 2
    merging.merge(institution, into, by=operator, now=timezone.now())
    assert conflicts.unrecused() == [motion]
    motion.refresh_from_db()
    boards.close_due(motion.pk, now=motion.closes_at)
    assert list(motion.recusals.values_list("member", "basis")) == [(board[1].pk, "institution")]
    motion.refresh_from_db()
    assert (boards.count(motion, now=timezone.now()).abstentions, conflicts.unrecused()) == (1, [])


def test_a_chair_of_the_receiving_institution_does_not_break_the_tie(institution, into, operator):
    four = factories.board(4)
    motion = factories.reviewed_contribution(institution).motions.get()
    factories.join(into, four[0])
    factories.review_all(motion)
    motion.refresh_from_db()
    for voter, choice in zip(four, ("for", "for", "against", "against"), strict=True):
        factories.cast(motion, voter, choice, "Unsure.")
    motion.refresh_from_db()
    assert motion.status == "tied"
    merging.merge(institution, into, by=operator, now=timezone.now())
    with pytest.raises(NotAllowed, match="unless recused"):
        boards.decide_tie(motion, choice="for", reason="Ours.", by=four[0], now=timezone.now())


@pytest.mark.parametrize("before", [True, False], ids=["declared before the merger", "declared after it"])
def test_an_interest_in_the_receiving_institution_recuses(institution, into, board, operator, before):
    motion = factories.reviewed_contribution(institution).motions.get()

    def declare():
        boards.register_interest(
            nature="authorship", institution=into, note="A paper.", by=board[1], now=timezone.now()
        )

    if before:
        declare()
        assert not motion.recusals.exists()
    merging.merge(institution, into, by=operator, now=timezone.now())
    if before:
        factories.declare(motion, board[0])  # any later act finds it
    else:
        declare()
    assert list(motion.recusals.values_list("member", "basis")) == [(board[1].pk, "interest")]


def test_an_interest_in_what_was_merged_goes_on_in_the_other(institution, into, board, operator):
    boards.register_interest(
        nature="authorship", institution=institution, note="A paper.", by=board[1], now=timezone.now()
    )
    merging.merge(institution, into, by=operator, now=timezone.now())
    motion = factories.reviewed_contribution(into).motions.get()
    assert set(conflicts.conflicts(motion)) == {board[1].pk}


def test_a_draft_of_it_says_who_has_it_and_offers_to_begin_anew(sign_in, institution, into, steward, operator):
    draft = factories.draft_contribution(institution)
    page = f"/contributions/{draft.pk}/"
    assert "Review and submit" in sign_in(steward).get(page).text
    merging.merge(institution, into, by=operator, now=timezone.now())
    shown = sign_in(steward).get(page)
    assert (shown.context["who"], shown.context["next_step"]) == (
        "Great Eye Hospital", "Begin anew for Great Eye Hospital, or withdraw it.",
    )  # fmt: skip
    assert (shown.context["actions"], shown.context["obstacles"]) == (["withdraw"], [])
    assert ("Review and submit" in shown.text, "Continue the draft" in shown.text) == (False, False)
    assert 'href="/contributions/new/?programme=retina">Begin anew</a>' in shown.text
    assert sign_in(steward).get(f"{page}submit/").status_code == 403
    draft = Contribution.objects.get(pk=draft.pk)
    with pytest.raises(NotAllowed, match="is now part of Great Eye Hospital: begin there anew"):
        contributions.change(draft, title="Other", by=steward, now=timezone.now())


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


def test_a_generator_is_its_successors_own(institution, base, steward, operator, tmp_path):
    """Images that the successor draws from it are held against it, and stay under its embargo."""
    programmes.change(base.programme, kinds=["weights", "synthetic"], by=None)
    base.programme.refresh_from_db()
    day = timezone.now().date() + timedelta(days=90)
    weights = contributing.at_status("review", institution, base, by=steward, content=b"a generator" * 9)
    into = factories.member_institution("Great Eye Hospital")
    manager = factories.person_of(into, Role.STEWARD)
    Contribution.objects.filter(pk=weights.pk).update(embargo_until=day)
    images = contributing.draft(into, base, by=manager, kind="synthetic")
    sha256 = weights.files.get().sha256
    contributing.check(images, 4, "pass", evidence={"generator_sha256": sha256})
    folders = [tmp_path / name for name in ("before", "after")]
    for folder in folders:
        folder.mkdir()
    assert (list(gather.generators(images, folders[0]).iterdir()), embargo.inherit(images, now=timezone.now())) == (
        [],
        "",
    )
    merging.merge(institution, into, by=operator, now=timezone.now())
    images = Contribution.objects.get(pk=images.pk)
    assert [path.stem for path in gather.generators(images, folders[1]).iterdir()] == [sha256]
    assert "nobody uses the images before" in embargo.inherit(images, now=timezone.now())
    assert images.embargo_until == day


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["role", "invitation"])
def test_nobody_takes_a_role_in_what_is_merged_at_this_moment(institution, into, operator, monkeypatch, way):
    lead, now = factories.person_of(institution), timezone.now()
    person = factories.person_of(institution, Role.STEWARD) if way == "role" else factories.user("Ann")
    _, secret = memberships.invite(institution, email=person.email, role=Role.MEMBER, by=lead, now=now)
    take = {
        "role": lambda: memberships.add_role(institution, person, Role.MEMBER, by=lead, now=now),
        "invitation": lambda: memberships.accept_invitation(secret, by=person, verified_emails={person.email}, now=now),
    }[way]
    thread, refused = beside(take)
    then(monkeypatch, services, "retire", lambda: (thread.start(), until_somebody_waits()))
    merging.merge(institution, into, by=operator, now=now)
    thread.join()
    assert [type(exc) for exc in refused] == [MergedMeanwhile]
    assert not institution.memberships.current().exists()
