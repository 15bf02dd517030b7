"""Who reads of a contribution before its correction, and of a correction before it is sent."""

import pytest
from django.utils import timezone

from contributions import services
from tests import contributing

pytestmark = pytest.mark.services


@pytest.fixture
def base(programme):
    return contributing.registered_base(programme)


def test_a_correction_tells_nothing_of_what_only_its_institution_sees(institution, base, steward, board, sign_in):
    before = contributing.draft(institution, base, by=steward, title="Weights")
    contributing.upload(before, b"named" * 20, by=steward, name="wanjiru.safetensors")
    before = services.withdraw(before, by=steward, reason="A name is in a file's.", now=timezone.now())
    after = services.replace(before, by=steward, now=timezone.now())
    contributing.upload(after, b"weights" * 20, by=steward)
    after = services.submit(after, by=steward, now=timezone.now())
    services.begin_validation(after.pk, now=timezone.now())
    services.promote_files(after.pk)
    services.refer(after.pk, now=timezone.now())
    own, colleague = (sign_in(person).get(after.get_absolute_url()).content.decode() for person in (steward, board[1]))
    assert ["wanjiru" in own, before.get_absolute_url() in own] == [True, True]
    assert ["wanjiru" in colleague, before.get_absolute_url() in colleague] == [False, False]


def test_the_report_on_an_institution_lists_what_was_sent(institution, base, steward, auditor, sign_in):
    never = contributing.at_status("withdrawn", institution, base, by=steward)
    sent = contributing.at_status("submitted", institution, base, by=steward)
    page = sign_in(auditor).get(f"/institutions/{institution.slug}/report/").content.decode()
    assert [row.get_absolute_url() in page for row in (never, sent)] == [False, True]


def test_a_correction_that_is_not_sent_is_not_named(institution, base, steward, board, sign_in):
    returned = contributing.at_status("returned", institution, base, by=steward)
    draft = services.replace(returned, by=steward, now=timezone.now())
    services.change(draft, title="Weights of Wanjiru K.", by=steward, now=timezone.now())
    own, colleague = (sign_in(person).get(returned.get_absolute_url()) for person in (steward, board[1]))
    assert ("Wanjiru" in own.content.decode(), "Wanjiru" in colleague.content.decode()) == (True, False)
