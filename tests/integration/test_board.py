"""The board: motions, votes, recusal."""

from django.utils import timezone

from governance.board import services as boards
from tests import factories


def test_three_votes_for_admit_an_applicant(programme, board):
    institution = factories.applied_institution("Lake Hospital")
    motion = boards.refer_institution(institution.pk, now=timezone.now())
    factories.vote_all(motion)
    institution.refresh_from_db()
    assert (motion.status, institution.status) == ("carried", "member")
