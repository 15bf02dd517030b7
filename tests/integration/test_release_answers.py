"""What institutions say of the release of a model that learnt from their contributions, and who reads it."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import Motion
from governance.releases import answers
from governance.releases.models import Release, SiteAnswer
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import memberships, merging
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.institutions.vocabulary import Role
from tests import contributing, factories, publishing
from tests.standing import kept

REASON = "Too few of our patients were asked."
UNASKED = "what does"


def now():
    return timezone.now()


def given(institution: Institution, base):
    """An approved contribution."""
    steward = factories.person_of(institution, Role.STEWARD)
    return contributing.at_status(
        "approved", institution, base, by=steward, content=f"weights of {institution}".encode()
    )


@pytest.fixture
def volta_steward(volta) -> User:
    """The steward of another institution that is asked."""

    def build() -> User:
        factories.sign_agreement(volta)
        return factories.person_of(volta, Role.STEWARD)

    return kept("volta_steward", build)


@pytest.fixture
def release(programme, board, operator, institution, volta, volta_steward, base, steward) -> Release:
    """Proposed; its model learnt from Moi Eye Clinic, from Volta Teaching Hospital and from Zagreb Eye Clinic."""

    def build() -> Release:
        third = factories.member_institution("Zagreb Eye Clinic")
        return publishing.proposed_release(operator, *(given(row, base) for row in (institution, volta, third)))

    return kept("release of three", build)


@pytest.fixture
def motion(release) -> Motion:
    return release.motions.get()


def say(release: Release, by: User, answer: str = "approves", reason: str = "") -> SiteAnswer:
    institution = institutions.institutions_of(by).get()
    return boards.answer_release(release, institution, answer=answer, reason=reason, by=by, now=now())


def given_of(release: Release) -> list[tuple[str, str]]:
    lines = answers.lines(release)
    return [(line.institution.name, line.answer.answer if line.answer else "") for line in lines]


def post(client: Client, release: Release, institution: Institution, **form: str):
    return client.post(f"/board/releases/{release.slug}/answers/{institution.slug}/", form)


# Asking and answering


def test_who_manages_what_it_learnt_from_is_asked(release, institution, steward, investigator, member, outsider):
    subject = f"{release} is proposed for release: what does {institution} say?"
    asked = User.objects.filter(notifications__subject=subject).order_by("name")
    assert list(asked) == sorted([steward, investigator], key=lambda person: person.name)
    told = steward.notifications.get(subject=subject)
    assert (told.type, told.path) == ("contribution", release.get_absolute_url())
    assert not outsider.notifications.filter(subject__contains=UNASKED).exists()
    assert not member.notifications.filter(subject__contains=UNASKED).exists()


def test_a_model_of_open_data_alone_asks_nobody(programme, board, operator, steward):
    release = publishing.proposed_release(operator)
    assert answers.asked(release) == []
    assert not steward.notifications.filter(subject__contains=UNASKED).exists()


def test_an_answer_replaces_the_one_before(release, institution, steward, investigator):
    say(release, steward, "objects", REASON)
    say(release, investigator)
    row = release.site_answers.get()
    assert (row.institution, row.answer, row.reason, row.by) == (institution, "approves", "", investigator)
    events = AuditEvent.objects.filter(verb__startswith="release.site_").order_by("pk")
    assert [(row.verb, row.actor_id, row.institution_id, row.subject_id) for row in events] == [
        ("release.site_objected", steward.pk, institution.pk, release.pk),
        ("release.site_approved", investigator.pk, institution.pk, release.pk),
    ]


def test_an_objection_needs_a_reason(release, steward):
    with pytest.raises(institutions.ReasonMissing):
        say(release, steward, "objects", "  ")
    assert release.site_answers.count() == 0


def test_only_who_manages_an_institution_that_is_asked_answers(
    release, institution, volta, member, signing_official, outsider, chair, steward
):
    for person in (member, signing_official, outsider, chair):
        with pytest.raises(NotAllowed, match="Only a data steward or principal investigator of Moi Eye Clinic"):
            boards.answer_release(release, institution, answer="approves", reason="", by=person, now=now())
    with pytest.raises(NotAllowed):  # of another institution that is asked
        boards.answer_release(release, volta, answer="approves", reason="", by=steward, now=now())
    with pytest.raises(NotAllowed, match="did not learn from anything that Andes Retina contributed"):
        say(release, outsider)
    assert release.site_answers.count() == 0


@pytest.mark.parametrize(("choice", "word"), [("for", "released"), ("against", "declined")])
def test_nobody_answers_once_the_board_has_decided(release, motion, steward, institution, sign_in, choice, word):
    say(release, steward)
    factories.vote_all(motion, choice, "No.")
    with pytest.raises(answers.NoLongerAsked, match=f"is {word}: the board has decided"):
        say(release, steward, "objects", REASON)
    assert post(sign_in(steward), release, institution, answer="objects", reason=REASON).status_code == 409
    assert release.site_answers.get().answer == "approves"


def test_who_took_an_institution_over_answers_for_it(release, institution, volta, steward, volta_steward, operator):
    say(release, steward, "objects", REASON)
    say(release, volta_steward)
    merging.merge(institution, volta, by=operator, now=now())
    assert given_of(release) == [("Volta Teaching Hospital", "objects"), ("Zagreb Eye Clinic", "")]
    say(release, steward)  # is steward there now
    assert given_of(release) == [("Volta Teaching Hospital", "approves"), ("Zagreb Eye Clinic", "")]
    assert release.site_answers.get().by == steward


# The database


@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("site_answer_known", {"answer": "perhaps"}),
        ("objection_has_a_reason", {"answer": "objects", "reason": ""}),
    ],
)
def test_the_database_refuses(release, steward, constraint, change):
    row = say(release, steward)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        SiteAnswer.objects.filter(pk=row.pk).update(**change)


def test_the_database_refuses_a_second_answer(release, steward, volta_steward):
    row, other = say(release, steward), say(release, volta_steward)
    with pytest.raises(IntegrityError, match="one_answer_per_release_and_institution"), transaction.atomic():
        SiteAnswer.objects.filter(pk=other.pk).update(institution=row.institution)


# The board


def test_the_board_reads_every_answer_with_its_reason(release, motion, steward, volta_steward, chair, sign_in):
    say(release, steward)
    say(release, volta_steward, "objects", REASON)
    factories.declare(motion, chair)
    page = contributing.text(sign_in(chair).get(motion.get_absolute_url()))
    assert "Contributing institutions: 1 of 3 approving, 1 objecting, 1 without an answer." in page
    assert f"Moi Eye Clinic Approves{steward}, " in page
    assert f"Volta Teaching Hospital Objects{volta_steward}, " in page
    assert f"UTC {REASON} Zagreb Eye Clinic Not answered yet" in page


def test_who_stepped_aside_reads_no_reason(release, motion, volta_steward, chair, sign_in):
    say(release, volta_steward, "objects", REASON)
    boards.recuse(motion, reason="I work there.", by=chair, now=now())
    page = contributing.text(sign_in(chair).get(motion.get_absolute_url()))
    assert f"Volta Teaching Hospital Objects{volta_steward}, " in page
    assert ("Not shown to who stepped aside" in page, REASON in page) == (True, False)


def test_the_board_is_told_of_an_objection_once(release, motion, steward, board):
    voter, aside = board[1], board[2]
    factories.cast(motion, voter)
    boards.recuse(motion, reason="I work there.", by=aside, now=now())
    say(release, steward)
    for reason in (REASON, "Another reason."):
        say(release, steward, "objects", reason)
    told = [person.notifications.filter(subject=f"Moi Eye Clinic objects: {motion}").count() for person in board]
    assert told == [1, 1, 0]
    entry = voter.notifications.get(subject__contains="objects")
    assert (entry.type, entry.path) == ("ballot", motion.get_absolute_url())
    assert "reason." not in entry.text  # it stands on the page alone


def test_an_answer_while_nobody_asks_the_board_is_read_when_it_is_asked_again(release, motion, steward, chair):
    for days in (15, 30):
        boards.close_due(motion.pk, now=now() + timedelta(days=days))
    say(release, steward, "objects", REASON)
    assert not chair.notifications.filter(subject__contains="objects").exists()
    motion.refresh_from_db()
    assert boards.put_again(motion, by=chair, now=now()).release == release
    assert given_of(release)[0] == ("Moi Eye Clinic", "objects")


# The page of the model


def test_who_manages_two_that_are_asked_answers_for_each(release, institution, volta, steward, sign_in):
    factories.join(volta, steward, Role.STEWARD)
    client = sign_in(steward)
    post(client, release, volta, answer="objects", reason=REASON)
    post(client, release, institution, answer="approves")
    assert given_of(release)[:2] == [("Moi Eye Clinic", "approves"), ("Volta Teaching Hospital", "objects")]
    page = client.get(release.get_absolute_url())
    assert [line.institution for line, _ in page.context["own_answers"]] == [institution, volta]


def test_the_page_takes_an_answer_and_a_change(release, institution, steward, sign_in):
    client, page = sign_in(steward), release.get_absolute_url()
    assert "Not answered yet" in contributing.text(client.get(page))
    answer = post(client, release, institution, answer="approves")
    assert (answer.status_code, answer.url) == (302, f"{page}#answer")
    assert f"Approves {steward}" in contributing.text(client.get(page))
    refused = post(client, release, institution, answer="objects", reason="")
    assert (refused.status_code, release.site_answers.get().answer) == (422, "approves")
    assert "Say in a sentence why your institution objects" in refused.text
    post(client, release, institution, answer="objects", reason=REASON)
    assert f"Objects {steward}" in contributing.text(client.get(page))


def test_no_institution_reads_what_another_said(release, steward, volta_steward, sign_in):
    say(release, volta_steward, "objects", REASON)
    page = contributing.text(sign_in(steward).get(release.get_absolute_url()))
    assert (REASON in page, str(volta_steward) in page, "Objects" in page) == (False, False, False)


def test_only_who_is_asked_sees_what_is_proposed_or_declined(
    release, motion, institution, steward, investigator, member, signing_official, outsider, researcher, sign_in
):
    former = factories.user("Former Steward")
    ended = factories.join(institution, former, Role.STEWARD)
    page = release.get_absolute_url()
    assert sign_in(former).get(page).status_code == 200
    memberships.end_membership(ended, by=investigator, now=now())
    everybody = (steward, investigator, former, member, signing_official, outsider, researcher)
    expected = [200, 200, 404, 404, 404, 404, 404]
    assert [sign_in(person).get(page).status_code for person in everybody] == expected
    assert [release in Release.objects.visible_to(person) for person in everybody] == [x == 200 for x in expected]
    factories.vote_all(motion, "against", "They quote an objection.")
    assert [sign_in(person).get(page).status_code for person in everybody] == expected
    assert Client().get(page).status_code == 404


def test_who_is_asked_reads_neither_the_docket_nor_the_boards_reasons(release, motion, steward, chair, sign_in):
    page = release.get_absolute_url()
    assert "To the docket" not in sign_in(steward).get(page).text
    factories.vote_all(motion, "against", "They quote an objection.")
    read = {person.pk: sign_in(person).get(page).text for person in (steward, chair)}
    assert ["They quote an objection." in read[person.pk] for person in (steward, chair)] == [False, True]
    assert "Did not answer" in contributing.text(sign_in(steward).get(page))


def test_what_others_asked_not_to_be_named_stays_unnamed(release, volta, steward, sign_in):
    investigator = factories.person_of(volta, Role.PRINCIPAL_INVESTIGATOR)
    institutions.change_profile(volta, by=investigator, naming="unnamed")
    page = sign_in(steward).get(release.get_absolute_url()).text
    assert (volta.name in page, "An institution that asked not to be named" in page) == (False, True)


# In public


def test_the_public_reads_counts_alone(release, motion, steward, volta_steward, sign_in):
    say(release, steward)
    say(release, volta_steward, "objects", REASON)
    factories.vote_all(motion)
    for client in (Client(), sign_in(steward)):
        page = contributing.text(client.get(release.get_absolute_url()))
        assert "1 of 3 contributing institutions approved the release; 1 objected; 1 did not answer." in page
        assert (REASON in page, str(volta_steward) in page) == (False, False)


def test_a_count_that_would_be_an_answer_is_left_out(
    programme, board, operator, institution, volta_steward, volta, base, steward
):
    both = [given(institution, base), given(volta, base)]
    for number in (1, 2):
        row = publishing.proposed_release(operator, *both[:number], slug=f"few-{number}")
        say(row, steward)
        factories.vote_all(row.motions.get())
        row.refresh_from_db()
        assert (row.status, answers.public_count(row)) == ("released", None)
        assert "contributing institutions" not in Client().get(row.get_absolute_url()).text


def test_that_everybody_objected_is_left_out(release, motion, steward, volta_steward):
    third = factories.person_of(Institution.objects.get(name="Zagreb Eye Clinic"), Role.STEWARD)
    for person in (steward, volta_steward, third):
        say(release, person, "objects", REASON)
    assert answers.public_count(release) is None  # it is before the board
    factories.vote_all(motion)
    release.refresh_from_db()
    assert answers.public_count(release) is None


def test_that_all_but_one_objected_is_left_out(release, motion, steward, volta_steward):
    """The one that did not knows its own answer, and would read those of the others."""
    for person in (steward, volta_steward):
        say(release, person, "objects", REASON)
    factories.vote_all(motion)
    release.refresh_from_db()
    assert (release.status, answers.public_count(release)) == ("released", None)
