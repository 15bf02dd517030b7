"""How a case ends: declined, withdrawn, renewed, terminated, expired; what the calendar says."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from portal.agreements import pdf, receipts, services
from portal.agreements.models import SigningRequest
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.lifecycle import TransitionNotAllowed
from portal.notifications import outbox
from portal.notifications.models import Notification
from portal.templatetags.portal_tags import day
from tests import factories
from tests.log import verbs_of

Role = factories.Role


# Declining, withdrawing, renewing, terminating


def test_any_signer_can_decline_with_a_reason_that_everybody_reads(case, volta, django_capture_on_commit_callbacks):
    official = factories.person_of(volta, Role.SIGNING_OFFICIAL)
    with pytest.raises(services.ReasonMissing):
        services.decline(case, by=official, reason="  ", now=timezone.now())
    outbox.send_due(now=timezone.now())  # what the way here told
    mail.outbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        declined = services.decline(case, by=official, reason="Clause 8 is not ours.", now=timezone.now())
    assert (declined.status, declined.reason, declined.ended_at is not None) == (
        "declined", "Clause 8 is not ours.", True,
    )  # fmt: skip
    assert {message.to[0] for message in mail.outbox} == {official.email, factories.person_of(volta).email}
    assert all("Clause 8 is not ours." in message.body for message in mail.outbox)
    assert factories.draft_case(volta, case.agreement).pk != case.pk  # it can be prepared again


def test_strangers_and_members_cannot_decline(case, volta, outsider, board_member):
    for person in (outsider, board_member, factories.person_of(volta, Role.MEMBER)):
        with pytest.raises(NotAllowed, match="Only those who are to sign"):
            services.decline(case, by=person, reason="No.", now=timezone.now())


def test_what_has_ended_does_not_move_again(case, volta):
    manager = factories.person_of(volta)
    services.withdraw(case, by=manager, now=timezone.now())
    for step in (
        lambda: services.send(case, by=manager, now=timezone.now()),
        lambda: services.decline(case, by=manager, reason="No.", now=timezone.now()),
        lambda: services.withdraw(case, by=manager, now=timezone.now()),
        lambda: services.terminate(case, by=manager, reason="No.", now=timezone.now()),
    ):
        with pytest.raises(TransitionNotAllowed, match="is withdrawn, so it cannot become"):
            step()


def test_a_renewal_takes_the_place_of_the_one_before_with_its_last_signature(case, volta, agreement):
    old = factories.signed_case(case)
    new = factories.sent_case(volta, agreement)
    factories.signed_case(new, times=2)
    old.refresh_from_db()
    assert (new.renews, old.status) == (old, "active")
    factories.sign_next(new)
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.status, new.status) == ("superseded", "active")
    assert old.signatures.count() == 3


def test_terminating_tells_its_effects_first_and_keeps_what_was_given(institution, steward, official, board):
    case = institution.signing_requests.get()
    contribution = factories.reviewed_contribution(institution)
    draft = factories.draft_contribution(institution)
    for reader, named in ((official, [str(draft)]), (board[0], [])):
        told = {effect.what: effect for effect in services.effects_of_termination(case, reader=reader)}["Drafts"]
        assert (told.count, [name for name, _ in told.items]) == (1, named)
    effects = {effect.what: effect.count for effect in services.effects_of_termination(case)}
    assert effects == {
        "Institutions under it": 1,
        "Drafts": 1,
        "Contributions in checks or before the board": 1,
        "Approved contributions": 0,
        "Corpora that hold them": 0,
        "Training runs": 0,
        "Releases": 0,
    }
    with pytest.raises(NotAllowed, match="can terminate this agreement"):
        services.terminate(case, by=steward, reason="No.", now=timezone.now())
    ended = services.terminate(case, by=official, reason="The trial ended.", now=timezone.now())
    contribution.refresh_from_db()
    assert (ended.status, ended.reason, contribution.status) == ("terminated", "The trial ended.", "review")
    assert AuditEvent.objects.get(verb="agreement.terminated").facts["effects"] == effects


@pytest.fixture
def official(institution):
    return factories.person_of(institution, Role.SIGNING_OFFICIAL)


NOTICE = timedelta(days=60)  # data-use agreement, 14.1


@pytest.fixture
def covering(agreement, volta):
    """An agreement in force under which a second hospital stands."""
    covered = factories.admitted_institution("Kumasi Eye Centre", country="GH")
    draft = factories.draft_case(volta, agreement, covered=[covered])
    services.confirm_cover(draft.covered.get(), by=factories.person_of(covered), now=timezone.now())
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    factories.signatory()
    return factories.signed_case(services.send(draft, by=factories.person_of(volta), now=timezone.now()))


def told_by(subject: str) -> set[str]:
    return set(Notification.objects.filter(subject=subject).values_list("recipient__email", flat=True))


def test_the_consortium_ends_an_agreement_with_notice_and_a_stranger_not_at_all(covering, volta, outsider, board, now):
    covered = covering.covered.get().institution
    signatory = factories.signatory()
    with pytest.raises(NotAllowed):
        services.terminate(covering, by=outsider, reason="No.", now=now)
    noticed = services.terminate(covering, by=signatory, reason="They sent faces.", now=now)
    last = now.date() + NOTICE
    assert (noticed.status, noticed.ends_on, noticed.ended_by, noticed.reason) == (
        "active", last, "consortium", "They sent faces.",
    )  # fmt: skip
    notice = AuditEvent.objects.get(verb="agreement.notice_given").facts
    assert (notice["ends_on"], notice["effects"]["Institutions under it"]) == (last.isoformat(), 2)
    whom = {
        signatory.email, board[0].email, factories.person_of(volta).email, factories.person_of(covered).email,
        factories.person_of(volta, Role.SIGNING_OFFICIAL).email,
    }  # fmt: skip
    assert told_by(f"{covering} ends after {last:%-d %B %Y}") == whom
    with pytest.raises(services.NoticeGiven, match="has given notice already"):
        services.terminate(covering, by=signatory, reason="Again.", now=now)

    for party in (volta, covered):
        place = services.standing(party, covering.agreement, now=now)
        assert (place.state, place.in_force, place.due_on, place.blocked_on) == (
            "ending", True, last, last + timedelta(days=1),
        )  # fmt: skip
        assert place.reason.startswith(f"The consortium has given notice: the full of {party} is in force until")
    services.sweep(now=now + NOTICE)
    assert SigningRequest.objects.get(pk=covering.pk).status == "active"
    after = now + NOTICE + timedelta(days=1)
    for _ in range(2):
        place = services.standing(volta, covering.agreement, now=after)
        assert (place.state, place.reason) == (
            "terminated",
            f"The full of {volta} was terminated by the consortium. It can be signed anew; what is here stays.",
        )
        services.sweep(now=after)
    assert SigningRequest.objects.get(pk=covering.pk).status == "terminated"
    assert told_by(f"{covering} has ended") == whom


def test_an_institution_ends_it_at_once_and_every_hospital_and_the_chair_are_told_who_did(covering, volta, board, now):
    covered = covering.covered.get().institution
    official = factories.person_of(volta, Role.SIGNING_OFFICIAL)
    services.terminate(covering, by=factories.signatory(), reason="They sent faces.", now=now)
    ended = services.terminate(covering, by=official, reason="We close.", now=now)  # it need not wait for the day
    assert (ended.status, ended.ended_by, ended.reason, ended.ends_on) == (
        "terminated", "institution", "We close.", None,
    )  # fmt: skip
    assert told_by(f"{covering} was terminated") == {
        factories.signatory().email, board[0].email, factories.person_of(volta).email, official.email,
        factories.person_of(covered).email,
    }  # fmt: skip
    reasons = [services.standing(party, covering.agreement, now=now).reason for party in (volta, covered)]
    assert reasons == [
        f"The full of {volta} was terminated by the institution. It can be signed anew; what is here stays.",
        f"The full of {covered} was terminated by {volta}. It can be signed anew; what is here stays.",
    ]


def test_a_notice_does_not_outlast_the_agreement_and_a_new_signature_ends_it(case, volta, agreement):
    case = factories.signed_case(case)
    late = timezone.now() + (case.expires_on - timezone.now().date()) - timedelta(days=10)
    noticed = services.terminate(case, by=factories.signatory(), reason="They left.", now=late)
    assert (noticed.ends_on, noticed.last_day) == (case.expires_on, case.expires_on)
    new = factories.signed_case(factories.sent_case(volta, agreement, now=late), now=late)
    place = services.standing(volta, agreement, now=late)
    assert (place.state, place.request) == ("active", new)


def test_the_page_says_the_last_day_before_and_after(sign_in, covering, volta, now):
    last = f"{day(timezone.now().date() + NOTICE)}"
    page = f"/agreements/cases/{covering.pk}/"
    ours, theirs = sign_in(factories.person_of(volta)), sign_in(factories.signatory())
    assert "It ends at once" in ours.get(f"{page}terminate/").text
    before = theirs.get(f"{page}terminate/").text
    assert (f"It ends after {last}" in before, "Give notice" in before) == (True, True)
    given = {"reason": "They sent faces.", "title": covering.agreement.title}
    assert theirs.post(f"{page}terminate/", given).url == page
    shown = ours.get(page).text
    for words in (f"It ends after {last}", "Notice given", "Why the consortium gave notice", "They sent faces."):
        assert words in shown
    assert "Renew it" not in shown
    assert "has given notice already" in theirs.get(page).text
    assert theirs.get(f"{page}terminate/").status_code == 409
    receipt = receipts.public_form(SigningRequest.objects.get(pk=covering.pk), now=timezone.now())
    assert (receipt["state"], receipt["expires_on"]) == ("expiring", str(timezone.now().date() + NOTICE))


def test_lists_and_copies_say_the_last_day_of_a_notice_too(sign_in, covering, volta, now, monkeypatch):
    ours = sign_in(factories.person_of(volta))
    pages = ["/agreements/cases/", f"/institutions/{volta.slug}/report/"]
    assert [f"until {day(covering.expires_on)}" in ours.get(page).text for page in pages] == [True, True]
    noticed = services.terminate(covering, by=factories.signatory(), reason="They sent faces.", now=now)
    last = now.date() + NOTICE
    assert [f"until {day(last)}" in ours.get(page).text for page in pages] == [True, True]
    assert [day(covering.expires_on) in ours.get(page).text for page in pages] == [False, False]
    drawn: dict[str, str] = {}
    monkeypatch.setattr(pdf._Document, "rows", lambda self, rows: drawn.update(rows))
    pdf.receipt(noticed)
    assert drawn["Valid until"] == f"{last:%d %B %Y}"


# The calendar


def test_the_sweep_reminds_once_at_each_step_and_expires_after_the_last_day(case, volta, now):
    factories.signed_case(case)
    case.refresh_from_db()
    told = []
    for days in (61, 60, 59, 30, 29, 7, 0, -1, -2):
        moment = timezone.now().replace(hour=12) + (case.expires_on - timezone.now().date()) - timedelta(days=days)
        for _ in range(2):
            services.sweep(now=moment)
        told.append(AuditEvent.objects.filter(verb="agreement.reminded", subject_id=case.pk).count())
    case.refresh_from_db()
    assert told == [0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert (case.status, verbs_of(case)[-1]) == ("expired", "expired")
    assert services.standing(volta, case.agreement, now=timezone.now()).state == "expired"


def test_the_sweep_asks_for_re_consent_then_warns_then_says_that_work_stopped(case, agreement):
    factories.signed_case(case)
    published = timezone.now()
    services.publish(agreement, text=factories.FULL_TEXT + "More.\n", change_note="More.", by=None, now=published)
    for days in (0, 1, 31, 53, 60, 61, 89, 91, 120):
        services.sweep(now=published + timedelta(days=days))
    due = (published + timedelta(days=60)).date()
    keys = list(
        AuditEvent.objects.filter(verb="agreement.reminded", subject_id=case.pk)
        .order_by("pk")
        .values_list("facts__key", flat=True)
    )
    assert keys == [*(f"reconsent-{due}-{step}" for step in (60, 30, 7)), f"grace-{due}", f"blocked-{due}"]


def test_a_minor_version_reminds_nobody(case, agreement):
    factories.signed_case(case)
    services.publish(
        agreement,
        text=factories.FULL_TEXT + "\n",
        change_note="A comma.",
        is_material=False,
        by=None,
        now=timezone.now(),
    )
    services.sweep(now=timezone.now())
    assert not AuditEvent.objects.filter(verb="agreement.reminded").exists()


def test_one_bad_row_stops_no_other(case, agreement, caplog, monkeypatch):
    other = factories.admitted_institution("Kumasi Eye Centre", country="GH")
    cases = [factories.signed_case(case), factories.signed_case(factories.sent_case(other, agreement))]
    from portal.agreements import calendar

    expire = calendar.expire

    def broken(row, *, now):
        if row.pk == case.pk:
            raise RuntimeError("broken")
        return expire(row, now=now)

    monkeypatch.setattr(calendar, "expire", broken)
    services.sweep(now=timezone.now() + timedelta(days=800))
    assert [SigningRequest.objects.get(pk=row.pk).status for row in cases] == ["active", "expired"]
    assert f"could not do broken [{case.pk}]" in caplog.text
