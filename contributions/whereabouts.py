"""Who has a contribution now, and what happens next: the part of its page that follows the checks."""

from typing import Any

from django.utils import timezone

from contributions import embargo, isolation
from contributions.lifecycle import LIVE, Status
from contributions.models import Contribution
from contributions.reports import report_of
from contributions.rules import moved_to
from portal.institutions import services as institutions

WHEREABOUTS = {
    Status.DRAFT: ("Your institution", "Complete the four steps and submit it."),
    Status.SUBMITTED: ("The queue of the checks", "A worker takes it as soon as one is free."),
    Status.VALIDATING: ("A worker", "The checks end by themselves, mostly within minutes. You may close this page."),
    Status.REVIEW: ("The board", "Two reviewers look, then the members vote. You are told the result by e-mail."),
    Status.APPROVED: ("The consortium", "Corpora may take it in; where it is used is shown on this page."),
    Status.REJECTED: ("Your institution", "Read why below, and send a corrected one."),
    Status.RETURNED: ("Your institution", "Read what to change below, and send a corrected one."),
    Status.WITHDRAWN: ("Nobody", "It enters no further corpus."),
}


def of_page(contribution: Contribution) -> dict[str, Any]:
    """Return what the part of the page that follows the checks shows."""
    report, isolated = report_of(contribution), isolation.current(contribution)
    who, next_step = WHEREABOUTS[Status(contribution.status)]
    if contribution.stalled_at:
        who, next_step = (
            "An operator",
            "The checks go on once a fault of the platform is mended. Nothing is asked of you.",
        )
    if isolated and contribution.status in LIVE:
        who, next_step = "The consortium", "It is isolated: nothing goes on until that is lifted or its files go."
    elif contribution.status == Status.APPROVED and (day := embargo.until(contribution, now=timezone.now())):
        next_step = f"From {day:%-d %B %Y} on it may become part of a corpus."
    ours = who == "Your institution"
    told: list[object] = [contribution.status, report.version, contribution.stalled_at is not None]
    told += [isolated and isolated.pk, contribution.embargo_until]
    acting, moved = institutions.acting_for(contribution.institution), moved_to(contribution)
    return {
        "contribution": contribution,
        "report": report,
        "who": acting.name if ours else who,
        "next_step": f"Begin anew for {moved}, or withdraw it." if moved else next_step,
        "moved_to": moved,
        "is_busy": contribution.status in {Status.SUBMITTED, Status.VALIDATING} and not isolated,
        "is_final": contribution.status in {Status.RETURNED, Status.WITHDRAWN},  # the others may go on
        "isolation": isolated,
        "seen": "-".join(map(str, told)),
    }
