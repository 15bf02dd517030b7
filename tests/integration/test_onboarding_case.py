"""The case of an institution: rounds of review, returns, refusals, appeals, reminders, merging; services and pages."""

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import Motion
from jobs import tasks
from portal.accounts import services as accounts
from portal.errors import NotAllowed
from portal.institutions import actions, lifecycle, onboarding, reviews, services
from portal.institutions.lifecycle import Status
from portal.institutions.models import FieldComment, Institution, Membership, Review
from portal.lifecycle import TransitionNotAllowed
from portal.notifications import outbox
from tests import factories
from tests.log import verbs_in_file

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


# Rounds


def test_an_application_goes_to_who_has_the_fewest_and_does_not_belong(programme, operator, board):
    first, second = (factories.applied_institution(name) for name in ("Lake Hospital", "Hill Hospital"))
    own = factories.draft_institution("Board Hospital", by=board[1])
    third = services.apply(own, by=board[1], now=timezone.now())
    found = [reviews.current(row).reviewer for row in (first, second, third)]
    assert len(set(found)) == 3
    assert found[2] != board[1]
    assert board[0] not in found  # the chair is told when others are silent


def test_an_application_goes_to_nobody_of_the_board_of_one_programme(programme):
    """They may neither return nor decline it, nor vote on it: an institution joins every programme."""
    accounts.appoint(
        factories.user("Member for Retina"), "board_member", programme=programme, by=None, now=timezone.now()
    )
    assert reviews.current(factories.applied_institution("Lake Hospital")).reviewer is None


def test_nobody_to_review_is_no_reason_to_refuse_an_application(programme):
    institution = factories.applied_institution("Lake Hospital")
    assert reviews.current(institution).reviewer is None
    operator = factories.consortium_person("Olu Operator", "operator")
    reviews.remind(now=timezone.now())
    assert reviews.current(institution).reviewer == operator


def test_five_working_days(programme):
    assert reviews.add_working_days(date(2026, 11, 25), 5) == date(2026, 12, 2)
    assert reviews.add_working_days(date(2026, 11, 28), 1) == date(2026, 11, 30)  # from a Saturday


def test_a_return_asks_field_by_field_and_shows_what_changed(sign_in, applied, operator, board):
    boards.refer_institution(applied.pk, now=timezone.now())
    reviewer = sign_in(operator)
    answer = reviewer.post(
        reverse("institutions:return", args=[applied.slug]),
        {"comment-city": "Is it Kisumu or Kakamega?", "comment-cameras": "Which ones?", "note": "Nearly there."},
    )
    assert answer.headers["Location"] == reverse("institutions:case", args=[applied.slug])
    applied.refresh_from_db()
    assert applied.status == Status.RETURNED
    applicant = sign_in(factories.person_of(applied))
    edit = reverse("institutions:edit", args=[applied.slug])
    page = applicant.get(edit)
    assert "Is it Kisumu or Kakamega?" in page.text
    assert "Nearly there." in page.text
    save = reverse("institutions:save_field", args=[applied.slug, "city"])
    assert "Saved" in applicant.post(save, {"city": "Kakamega"}).text
    applicant.post(reverse("institutions:submit", args=[applied.slug]))
    case = reviewer.get(reverse("institutions:case", args=[applied.slug]))
    assert [(row.label, row.before, row.after) for row in case.context["changes"]] == [("City", "Kisumu", "Kakamega")]
    assert reviews.current(applied).reviewer == operator  # who asked looks at the answer
    assert "Is it Kisumu" not in applicant.get(reverse("institutions:onboarding", args=[applied.slug])).text
    assert [verb for verb in verbs_in_file(applied) if verb.startswith("institution.")] == [
        "institution.drafted", "institution.applied", "institution.returned", "institution.resubmitted",
    ]  # fmt: skip


def test_a_return_says_what_to_change(sign_in, applied, operator):
    page = sign_in(operator).post(reverse("institutions:return", args=[applied.slug]), {"comment-city": "  "})
    assert page.status_code == 422
    assert "Say what to change" in page.text
    with pytest.raises(reviews.CommentsMissing):
        services.return_for_changes(applied, comments={"slug": "x"}, note="", by=operator, now=timezone.now())
    applied.refresh_from_db()
    assert applied.status == Status.APPLIED


def test_a_ballot_judges_one_round_only(applied, operator, board):
    first = boards.refer_institution(applied.pk, now=timezone.now())
    factories.declare(first)
    boards.cast_vote(first, choice="for", by=board[0], now=timezone.now())
    services.return_for_changes(applied, comments={}, note="More.", by=operator, now=timezone.now())
    with pytest.raises(boards.VoteRefused, match="moot"):
        boards.cast_vote(first, choice="for", reason="", by=board[1], now=timezone.now())
    resend(applied)
    with pytest.raises(boards.VoteRefused, match="moot"):  # sent again before the sweep came by
        boards.cast_vote(first, choice="for", reason="", by=board[1], now=timezone.now())
    second = boards.refer_institution(applied.pk, now=timezone.now())
    first.refresh_from_db()
    assert (first.status, second.status, second.votes.count()) == ("withdrawn", "open", 0)
    assert boards.refer_institution(applied.pk, now=timezone.now()) is None
    factories.vote_all(second)
    applied.refresh_from_db()
    assert applied.status == Status.MEMBER
    assert [row.outcome for row in applied.reviews.order_by("number")] == ["returned", "admitted"]


def test_the_sweep_takes_back_the_ballot_on_a_returned_application(applied, operator, board):
    motion = boards.refer_institution(applied.pk, now=timezone.now())
    services.return_for_changes(applied, comments={}, note="More.", by=operator, now=timezone.now())
    tasks.sweep()
    motion.refresh_from_db()
    assert motion.status == "withdrawn"
    resend(applied)
    tasks.sweep()
    assert Motion.objects.get(institution=applied, status="open").round == 2


@pytest.mark.parametrize("persona", ["applicant", "other_reviewer", "auditor", "member_of_board_who_belongs", "chair"])
def test_only_the_reviewer_an_operator_or_the_chair_returns(applied, operator, auditor, board, persona):
    assert reviews.current(applied).reviewer == operator
    belongs = factories.consortium_person("Belongs Too", "operator")
    services.start_membership(applied, belongs, Role.MEMBER, by=belongs, now=timezone.now())
    people = {
        "applicant": factories.person_of(applied),
        "other_reviewer": board[1],
        "auditor": auditor,
        "member_of_board_who_belongs": belongs,
        "chair": board[0],
    }
    try:
        services.return_for_changes(applied, comments={}, note="x", by=people[persona], now=timezone.now())
        assert persona == "chair"
    except NotAllowed:
        assert persona != "chair"


def test_the_profile_is_fixed_only_while_it_is_under_review():
    editable = [status for status in Status if lifecycle.is_editable(status)]
    assert editable == [Status.DRAFT, Status.RETURNED, Status.MEMBER]


def test_pairs_outside_the_table_are_refused(applied, now):
    for before, target in itertools.product(Status, Status):
        if (before, target) in lifecycle.TRANSITIONS or Status.MERGED in (before, target):
            continue
        reason = {"decision_code": "other", "decision_reason": "x"} if before == Status.DECLINED else {}
        Institution.objects.filter(pk=applied.pk).update(status=before, **reason)
        with pytest.raises(TransitionNotAllowed):
            services._move(applied.pk, target, by=None, now=now)


# Decisions


def test_a_refusal_says_why_and_opens_two_ways(
    sign_in, applied, operator, mailoutbox, django_capture_on_commit_callbacks
):
    url = reverse("institutions:decline", args=[applied.slug])
    client = sign_in(operator)
    assert client.post(url, {"code": "identity", "reason": ""}).status_code == 422
    assert client.post(url, {"code": "board_vote", "reason": "x"}).status_code == 422
    with django_capture_on_commit_callbacks(execute=True):
        assert client.post(url, {"code": "identity", "reason": "The address is a free mailbox."}).status_code == 302
    applied.refresh_from_db()
    assert (applied.status, applied.decision_code) == (Status.DECLINED, "identity")
    review = applied.reviews.get()
    assert (review.outcome, review.code, review.note) == ("declined", "identity", "The address is a free mailbox.")
    done, total = onboarding.progress(applied)
    assert f"{done} of {total} steps" in mailoutbox[-1].body  # the same count as on the page
    applicant = factories.person_of(applied)
    page = sign_in(applicant).get(reverse("institutions:onboarding", args=[applied.slug]))
    assert "The address is a free mailbox." in page.text
    assert f"{done}" in page.text
    assert {name for name, allowed in can(applied, applicant).items() if allowed} == {"reopen", "appeal"}


def test_fix_and_ask_again(sign_in, programme):
    institution = factories.declined_institution("Lake Hospital", ror_id="04cpxjv19")
    client = sign_in(factories.person_of(institution))
    assert client.get(reverse("institutions:reopen", args=[institution.slug])).status_code == 200
    client.post(reverse("institutions:reopen", args=[institution.slug]))
    institution.refresh_from_db()
    assert institution.status == Status.DRAFT
    assert resend(institution).round == 2
    assert institution.reviews.count() == 2


def test_a_reopened_application_loses_a_ror_id_race(programme):
    institution = factories.declined_institution("Lake Hospital", ror_id="04cpxjv19")
    factories.draft_institution("Lake Hospital Two", ror_id="04cpxjv19")
    with pytest.raises(services.RorIdTaken):
        services.reopen(institution, by=factories.person_of(institution), now=timezone.now())


def test_one_appeal_per_decision(sign_in, applied, operator, board):
    motion = boards.refer_institution(applied.pk, now=timezone.now())
    factories.vote_all(motion, choice="against", reason="No ethics approval.")
    applied.refresh_from_db()
    assert applied.decision_code == "board_vote"
    applicant = factories.person_of(applied)
    url = reverse("institutions:appeal", args=[applied.slug])
    client = sign_in(applicant)
    assert client.post(url, {"reason": " "}).status_code == 422
    client.post(url, {"reason": "The approval is attached now."})
    review = reviews.current(applied)
    assert (review.grounds, review.appeal_of.number) == ("The approval is attached now.", 1)
    with pytest.raises(NotAllowed, match="only the vote of the board"):
        services.decline_formally(applied, code="other", reason="x", by=operator, now=timezone.now())
    factories.vote_all(boards.refer_institution(applied.pk, now=timezone.now()), choice="against", reason="Still not.")
    applied.refresh_from_db()
    assert applied.status == Status.DECLINED
    with pytest.raises(NotAllowed, match="its decision stands"):
        services.appeal(applied, grounds="Again.", by=applicant, now=timezone.now())
    assert can(applied, applicant) == {"reopen": True, "appeal": False}
    assert "institution.appealed" in verbs_in_file(applied)


def test_withdrawal_from_every_state_before_a_decision(programme, operator):
    draft = factories.draft_institution("A")
    applied = factories.applied_institution("B")
    returned = factories.returned_institution("C", by=operator)
    for row in (draft, applied, returned):
        assert services.withdraw(row, by=factories.person_of(row), now=timezone.now()).status == Status.WITHDRAWN
    assert [row.outcome for row in Review.objects.order_by("pk")] == ["withdrawn", "returned"]


# Silence


def test_silence_reminds_the_reviewer_then_the_chair_once_each(
    applied, operator, board, mailoutbox, django_capture_on_commit_callbacks
):
    sent = reviews.current(applied).sent_at
    outbox.send_due(now=timezone.now())  # what the way here told
    told = []
    for days in (1, 9, 10, 15, 30, 400):
        mailoutbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            reviews.remind(now=sent + timedelta(days=days))
        told.append([address for mail in mailoutbox for address in mail.to])
    assert [row for row in told if row] == [[operator.email], [board[0].email]]


def test_years_of_silence_decide_nothing(applied, operator, board):
    start = timezone.now()
    boards.refer_institution(applied.pk, now=start)
    for step in range(0, YEARS.days, 120):
        now = start + timedelta(days=step)
        reviews.remind(now=now)
        boards.close_moot(now=now)
        for pk in boards.due(now=now):
            boards.close_due(pk, now=now)
    applied.refresh_from_db()
    assert (applied.status, reviews.current(applied).outcome) == (Status.APPLIED, "open")


def test_a_reviewer_who_left_is_replaced(applied, operator, board):
    operator.consortium_roles.update(ended_at=timezone.now())
    reviews.remind(now=timezone.now())
    assert reviews.current(applied).reviewer in board[1:]


def test_who_gives_a_review_away_and_gets_it_back_is_told(applied, operator, board):
    review = reviews.current(applied)
    for reviewer in (board[1], operator):
        reviews.reassign(review, reviewer, by=operator, now=timezone.now())
    assert operator.notifications.filter(subject="You review Lake Hospital").count() == 2


# Waiting


def test_the_waiting_list_is_oldest_first_and_costs_the_same(
    sign_in, programme, operator, django_assert_max_num_queries
):
    for number in range(3):
        factories.applied_institution(f"Hospital {number}")
    Review.objects.filter(institution__name="Hospital 2").update(
        sent_at=datetime(2026, 1, 5, tzinfo=UTC), target_on=date(2026, 1, 12)
    )
    client = sign_in(operator)
    with django_assert_max_num_queries(9):
        page = client.get(reverse("institutions:reviews"))
    assert [row.institution.name for row, _, _ in page.context["rows"]] == ["Hospital 2", "Hospital 0", "Hospital 1"]
    assert [late for _, _, late in page.context["rows"]] == [True, False, False]


def test_the_waiting_list_narrows_to_mine_and_is_not_for_members(sign_in, applied, operator, board_member, member):
    assert len(sign_in(operator).get(reverse("institutions:reviews"), {"show": "mine"}).context["rows"]) == 1
    assert sign_in(board_member).get(reverse("institutions:reviews"), {"show": "mine"}).context["rows"] == []
    for name, args in (("reviews", []), ("case", [applied.slug])):
        assert sign_in(member).get(reverse(f"institutions:{name}", args=args)).status_code in {403, 404}


def test_an_operator_gives_a_review_away(sign_in, applied, operator, board):
    url = reverse("institutions:reassign", args=[applied.slug])
    assert sign_in(board[1]).post(url, {"reviewer": board[1].pk}).status_code == 403
    outsider = factories.user("Out Sider")
    assert sign_in(operator).post(url, {"reviewer": outsider.pk}).status_code == 403
    sign_in(operator).post(url, {"reviewer": board[1].pk})
    assert reviews.current(applied).reviewer == board[1]


# Constraints of the database


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("institution_years_from_in_range", {"years_from": 1949}),
        ("institution_years_to_in_range", {"years_to": 2101}),
        ("institution_years_in_order", {"years_from": 2020, "years_to": 2019}),
        ("institution_declined_says_why", {"status": "declined"}),
        ("institution_declined_says_why", {"status": "declined", "decision_code": "other"}),
        ("institution_merged_iff_into", {"status": "merged"}),
    ],
)
def test_the_database_refuses_an_impossible_institution(applied, constraint, changes):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Institution.objects.filter(pk=applied.pk).update(**changes)


def test_the_database_refuses_a_merger_that_is_none(applied, institution):
    for constraint, changes in [
        ("institution_merged_iff_into", {"merged_into": institution}),
        ("institution_not_into_itself", {"merged_into": applied, "status": "merged"}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Institution.objects.filter(pk=applied.pk).update(**changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("review_number_once", {"number": 1, "outcome": "returned"}),
        ("one_open_review_per_institution", {"outcome": "open", "ended_at": None}),
        ("review_outcome_known", {"outcome": "lost"}),
        ("review_ended_at_iff_ended", {"ended_at": None}),
        ("review_declined_says_why", {"outcome": "declined"}),
        ("review_declined_says_why", {"code": "other"}),
        ("review_appeal_has_grounds", {"grounds": "None."}),
        ("review_escalated_after_reminder", {"escalated_at": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
)
def test_the_database_refuses_an_impossible_review(applied, operator, constraint, changes):
    services.return_for_changes(applied, comments={}, note="x", by=operator, now=timezone.now())
    resend(applied)
    services.return_for_changes(applied, comments={}, note="x", by=operator, now=timezone.now())
    resend(applied)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Review.objects.filter(institution=applied, number=2).update(**changes)


def test_the_database_holds_one_appeal_per_decision_and_says_what_a_comment_asks(applied, operator):
    services.decline(applied.pk, by=None, reason="No.", now=timezone.now())
    services.appeal(applied, grounds="Yes.", by=factories.person_of(applied), now=timezone.now())
    services.return_for_changes(applied, comments={"city": "?"}, note="", by=operator, now=timezone.now())
    first = applied.reviews.get(number=1)
    resend(applied)
    with pytest.raises(IntegrityError, match="appeal_of"), transaction.atomic():
        Review.objects.filter(institution=applied, number=3).update(appeal_of=first, grounds="Again.")
    for changes in ({"text": ""}, {"field": ""}):
        with pytest.raises(IntegrityError, match="field_comment_says_what"), transaction.atomic():
            FieldComment.objects.update(**changes)
