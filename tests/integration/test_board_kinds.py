"""What each kind of motion does when it is carried, lost or taken back, and when it is moot."""

from datetime import date, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import services as contributions
from contributions.corpora import services as corpora
from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Kind, Motion
from governance.releases import services as releases
from governance.releases.models import Release
from portal.accounts import services as accounts
from portal.agreements import services as agreements
from portal.errors import NotAllowed
from portal.institutions.models import Membership
from portal.notifications.models import Notification
from tests import candidates, factories, publishing

FAR = date(2099, 1, 1)


@pytest.fixture
def release(programme, board, operator) -> Release:
    return publishing.released_model(operator)


def now():
    return timezone.now()


def test_every_kind_has_its_row_in_the_table_of_effects():
    assert set(boards.EFFECTS) == set(Kind.values)


def test_a_retraction_stops_downloads_and_tells_who_accepted(release, researcher, chair):
    releases.accept_license(
        release, license_sha256=release.license.sha256, typed_name="R", institution_name="", purpose="P",
        channel="browser", by=researcher, now=now(),
    )  # fmt: skip
    motion = boards.propose_retraction(release, reason="A flaw in the data.", by=chair, now=now())
    factories.vote_all(motion)
    release.refresh_from_db()
    assert (release.status, release.reason) == ("retracted", "A flaw in the data.")
    assert researcher.notifications.get().subject == f"{release} was retracted"
    with pytest.raises(releases.Withdrawn):
        releases.require_download(release, by=researcher)


def test_a_lost_retraction_changes_nothing(release, chair):
    motion = boards.propose_retraction(release, reason="A flaw.", by=chair, now=now())
    factories.vote_all(motion, "against", "It is none.")
    release.refresh_from_db()
    assert (motion.status, release.status) == ("lost", "released")


def test_a_release_that_is_taken_back_is_declined(programme, board, operator):
    row = publishing.proposed_release(operator)
    boards.take_back(row.motions.get(), reason="A wrong card.", by=operator, now=now())
    row.refresh_from_db()
    assert (row.status, row.reason) == ("declined", "A wrong card.")


def test_a_candidate_whose_release_was_declined_is_proposed_again(programme, board, operator, sign_in):
    """It may be a card or a licence that was wrong. The board sees what it declined, and its address stays its own."""
    first = publishing.proposed_release(operator)
    page, client = f"/board/propose/{first.candidate.slug}/", sign_in(operator)
    assert client.get(page).status_code == 404
    factories.vote_all(first.motions.get(), "against", "The card is wrong.")
    assert f'href="{page}"' in client.get("/benchmark/").text
    asked = client.get(page)
    assert "The board declined Tiny 1.0" in asked.text
    assert "The board voted against it. The card is wrong." in asked.text
    assert asked.context["form"].initial["version"] == "1.1"
    form = {"name": "Tiny", "version": "1.1", "license": first.license_id, "card": "# Better"}
    assert client.post(page, form).status_code == 302
    second = Release.objects.get(slug="tiny-1-1")
    factories.vote_all(second.motions.get())
    statuses = {row.slug: row.status for row in first.candidate.releases.all()}
    assert statuses == {"tiny-1-0": "declined", "tiny-1-1": "released"}
    assert f'href="{page}"' not in client.get("/benchmark/").text
    assert f'href="{second.get_absolute_url()}"' in client.get("/benchmark/").text


def test_a_candidate_has_one_release_that_was_not_declined(release):
    twin = Release.objects.get()
    twin.pk, twin.slug = None, "twin"
    with pytest.raises(IntegrityError, match="one_release_of_a_candidate_not_declined"), transaction.atomic():
        twin.save()


def test_an_address_that_another_proposal_has_just_taken_is_a_form_error(release, operator, sign_in, monkeypatch):
    """Both forms found it free; the second to be saved is told."""
    second = publishing.candidate(release.candidate.programme, slug="second", corpus=release.candidate.corpus)
    monkeypatch.setattr("governance.board.forms.ProposalForm.clean", lambda form: form.cleaned_data)
    form = {"name": release.name, "version": release.version, "license": release.license_id, "card": "# Card"}
    answer = sign_in(operator).post(f"/board/propose/{second.slug}/", form)
    assert (answer.status_code, answer.context["form"].non_field_errors()) == (
        422,
        [f"There is a release {release.slug} already. Give another version."],
    )
    assert Motion.objects.filter(kind=Kind.RELEASE_MODEL).count() == 1


def test_who_voted_before_the_figures_of_a_release_is_counted_and_what_came_later_is_not_shown(
    programme, board, operator, sign_in
):
    candidate = candidates.candidate(programme)
    candidates.evaluations(candidate)
    motion = candidates.proposed(candidate).motions.get()
    factories.review_all(motion)
    client, warning = sign_in(operator), "1 member voted before these figures were there"
    first = boards.electorate(motion)[0]
    factories.cast(motion, first)
    assert warning not in client.get(motion.get_absolute_url()).text
    again = candidates.evaluations(candidate, seed=2)[0]
    page = client.get(motion.get_absolute_url()).text
    assert (warning in page, f'href="{again.get_absolute_url()}"' in page) == (True, True)
    factories.cast(motion, first, "abstain", "I have to read them first.")
    assert warning not in client.get(motion.get_absolute_url()).text
    factories.vote_all(motion)
    later = candidates.evaluations(candidate, seed=3)[0]
    page = client.get(motion.get_absolute_url()).text
    assert (motion.status, warning in page) == ("carried", False)
    assert [f'href="{row.get_absolute_url()}"' in page for row in (again, later)] == [True, False]


@pytest.fixture
def learnt(institution, programme, board, operator) -> tuple[Contribution, Release]:
    """A contribution that a released model has learnt from, and that was withdrawn."""
    contribution = factories.reviewed_contribution(institution)
    factories.vote_all(contribution.motions.get())
    contribution.refresh_from_db()
    candidate = candidates.candidate(programme, mixture=candidates.corpus(programme, contribution))
    row = candidates.released(candidate)
    steward = factories.person_of(institution, Membership.Role.STEWARD)
    return contributions.withdraw(contribution, by=steward, reason="A patient objects.", now=now()), row


@pytest.mark.parametrize(("consequence", "status"), [("exclude", "released"), ("retract", "retracted")])
def test_what_follows_a_withdrawal(learnt, operator, consequence, status):
    contribution, row = learnt
    motion = boards.propose_settlement(contribution, consequence=consequence, reason="Consent.", by=operator, now=now())
    factories.vote_all(motion)
    row.refresh_from_db()
    assert (motion.status, row.status) == ("carried", status)


def test_training_again_is_asked_of_the_operators(learnt, operator):
    motion = boards.propose_settlement(learnt[0], consequence="retrain", reason="Consent.", by=operator, now=now())
    factories.vote_all(motion)
    asked = operator.notifications.filter(subject=f"The board asks to train again without {learnt[0]}")
    assert asked.count() == 1


def asked_to_settle(contribution: Contribution) -> list[str]:
    subject = f"{contribution} was withdrawn: the board is to settle what follows"
    return list(Notification.objects.filter(subject=subject).order_by("pk").values_list("recipient__name", flat=True))


def test_the_chair_is_asked_what_follows_a_withdrawal_until_it_is_proposed(sign_in, learnt, board, operator):
    contribution, _ = learnt
    for days, count in ((0, 1), (1, 1), (13, 1), (14, 2)):
        boards.sweep(now=contribution.status_since + timedelta(days=days))
        assert asked_to_settle(contribution) == [board[0].name] * count
    asked = board[0].notifications.get(subject__endswith="what follows", key__endswith="-0")
    assert asked.path == f"/board/new/settle_withdrawal/?contribution={contribution.pk}"
    chosen = f'<option value="{contribution.pk}" selected>'
    assert chosen in sign_in(board[0]).get(asked.path).content.decode()
    motion = boards.propose_settlement(contribution, consequence="exclude", reason="?", by=board[0], now=now())
    boards.sweep(now=contribution.status_since + timedelta(days=30))
    assert asked_to_settle(contribution) == [board[0].name] * 2
    boards.take_back(motion, reason="Too early.", by=board[0], now=now())
    boards.sweep(now=contribution.status_since + timedelta(days=30))
    assert asked_to_settle(contribution) == [board[0].name] * 3


def test_the_board_is_asked_where_its_chair_belongs_to_the_institution(learnt, board, institution):
    factories.join(institution, board[0])
    boards.sweep(now=now())
    assert set(asked_to_settle(learnt[0])) == {board[1].name, board[2].name}


def test_nobody_is_asked_about_what_no_frozen_corpus_holds(institution, programme, board, steward):
    contribution = factories.reviewed_contribution(institution)
    factories.vote_all(contribution.motions.get())
    corpus = corpora.draft_corpus(programme, slug="c", title="C", by=None, now=now())
    contribution.refresh_from_db()
    corpora.add_generator(corpus, contribution, image_count=8, seed=1, now=timezone.now())
    contributions.withdraw(contribution, by=steward, reason="Wrong.", now=now())
    boards.sweep(now=now())
    corpora.freeze(corpus, by=None, now=now())
    boards.sweep(now=now())
    assert asked_to_settle(contribution) == []


def test_a_version_is_published_as_it_was_proposed(programme, board, operator):
    agreement = programme.agreements.get()
    text = agreement.versions.get().text + "\nMore.\n"
    said = {"change_note": "More.", "is_material": True, "deletion_days": 7}
    motion = boards.propose_version(agreement, text=text, **said, by=operator, now=now())
    factories.vote_all(motion)
    newest = agreements.newest_of(agreement)
    assert newest is not None
    assert (newest.version, newest.text, newest.is_material, motion.status) == (2, text, True, "carried")
    assert agreements.days_to_delete(programme, "weights") == 7


def test_a_version_is_moot_when_another_is_published_meanwhile(programme, board, operator):
    agreement = programme.agreements.get()
    motion = boards.propose_version(
        agreement, text="# Agreement\n", change_note="Short.", is_material=False, by=operator, now=now()
    )
    agreements.publish(agreement, text="# Another\n", change_note="?", by=None, now=now())
    assert boards.is_moot(motion)
    boards.sweep(now=now())
    motion.refresh_from_db()
    assert motion.status == "withdrawn"


def test_a_task_is_adopted(programme, board, operator):
    task = publishing.benchmark_task(programme)
    motion = boards.propose_task(task, reason="Needed.", by=operator, now=now())
    factories.vote_all(motion)
    task.refresh_from_db()
    assert task.adopted_at is not None
    with pytest.raises(boards.ProposalInvalid):
        boards.propose_task(task, reason="Again.", by=operator, now=now())


def test_a_seat_is_given_for_a_term_and_ends_after_it(programme, board, operator):
    person, ends = factories.user("New Person"), now().date() + timedelta(days=100)
    motion = boards.propose_seat(
        person, role="board_member", programme=programme, term_ends_on=ends, reason="Good.", by=operator, now=now()
    )
    factories.vote_all(motion)
    seat = person.consortium_roles.get()
    assert (seat.role, seat.programme, seat.term_ends_on, seat.ended_at) == ("board_member", programme, ends, None)
    for days, held in ((100, True), (101, False)):
        boards.sweep(now=now() + timedelta(days=days))
        assert person.consortium_roles.current().exists() is held


def test_a_seat_that_was_given_meanwhile_has_the_term_that_the_board_gave(programme, board, operator):
    person, ends = factories.user("New Person"), now().date() + timedelta(days=100)
    motion = boards.propose_seat(
        person, role="board_member", programme=None, term_ends_on=ends, reason="Good.", by=operator, now=now()
    )
    before = accounts.appoint(person, "board_member", by=operator, now=now())  # on the page of roles
    boards.set_rule("give_seat", None, quorum_floor=3, by=board[0], now=now())
    for voter in board:
        factories.cast(motion, voter)
    motion.refresh_from_db()
    before.refresh_from_db()
    assert (motion.status, before.ended_at is None) == ("carried", False)
    assert person.consortium_roles.get(ended_at=None).term_ends_on == ends


def test_a_new_chair_takes_over_from_the_one_before(programme, board, operator):
    motion = boards.propose_seat(
        board[1], role="chair", programme=None, term_ends_on=FAR, reason="Her turn.", by=operator, now=now()
    )
    factories.declare(motion)
    boards.set_rule("give_seat", None, quorum_floor=2, by=board[0], now=now())
    factories.vote_all(motion)
    assert (accounts.has_role(board[1], "chair"), accounts.has_role(board[0], "chair")) == (True, False)


def test_a_term_that_is_over_when_the_board_decides_takes_the_chair_from_nobody(programme, operator):
    people, ends = factories.board(5), now().date() + timedelta(days=3)
    motion = boards.propose_seat(
        people[1], role="chair", programme=None, term_ends_on=ends, reason="For a week.", by=operator, now=now()
    )
    boards.set_rule("give_seat", None, quorum_floor=2, by=people[0], now=now())
    motion.refresh_from_db()
    for voter in (people[0], people[2]):
        factories.cast(motion, voter)
    boards.sweep(now=motion.closes_at)
    motion.refresh_from_db()
    assert (motion.status, motion.arithmetic["eligible"]) == ("carried", 4)
    assert [accounts.has_role(person, "chair") for person in people[:2]] == [True, False]


def test_who_asks_what_the_board_cannot_be_asked(programme, release, learnt, board, operator, steward):
    with pytest.raises(NotAllowed):
        boards.propose_retraction(release, reason="?", by=steward, now=now())
    boards.propose_retraction(release, reason="?", by=operator, now=now())
    with pytest.raises(boards.ProposalInvalid, match="asks this already"):
        boards.propose_retraction(release, reason="?", by=operator, now=now())
    for wrong in ({"consequence": "forget"}, {"consequence": ""}):
        with pytest.raises(boards.ProposalInvalid):
            boards.propose_settlement(learnt[0], reason="?", by=operator, now=now(), **wrong)
    person = factories.user("Root")
    person.is_superuser = True
    for wrong in ({"role": "operator"}, {"term_ends_on": date(2020, 1, 1)}, {"role": "board_member"}):
        given = {"role": "board_member", "term_ends_on": FAR, **wrong}
        with pytest.raises(boards.ProposalInvalid):
            boards.propose_seat(person, programme=None, reason="?", by=operator, now=now(), **given)


def test_only_what_is_moot_is_taken_back_by_the_sweep(programme, institution, board, operator):
    contribution = factories.reviewed_contribution(institution)
    row = publishing.proposed_release(operator)
    steward = factories.person_of(institution, Membership.Role.STEWARD)
    boards.sweep(now=now())
    assert set(Motion.objects.values_list("status", flat=True)) == {"reviewing", "open"}
    contributions.withdraw(contribution, by=steward, reason="Wrong.", now=now())
    releases.decline(row.pk, by=None, reason="Wrong.", now=now())
    boards.sweep(now=now())
    assert set(Motion.objects.values_list("status", flat=True)) == {"withdrawn"}
