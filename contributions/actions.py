"""What a person can do with a contribution now, and why not, where not."""

from datetime import datetime

from django.urls import reverse

from contributions import deletion, embargo, services
from contributions.lifecycle import Status
from contributions.models import Contribution
from contributions.rules import is_steward, moved_to
from portal.accounts.models import User
from portal.actions import Action
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.lifecycle import TransitionNotAllowed

# name: (label, name of its address in the API, method)
ACTIONS = {
    "change": ("Change", "api:contribution", "patch"),
    "submit": ("Submit", "api:contribution_submit", "post"),
    "withdraw": ("Withdraw", "api:contribution_withdraw", "post"),
    "change_embargo": ("Make the embargo earlier, or lift it", "api:contribution_embargo", "post"),
    "delete_files": ("Delete the files", "api:contribution_delete_files", "post"),
    "replace": ("Replace by a corrected one", "api:contribution_replace", "post"),
}
# What a step that is not possible in this state is refused with, where it is not `transition_not_allowed`.
CODES = {
    "change": services.NotADraft.code,
    "replace": services.CannotReplace.code,
    "delete_files": deletion.NothingToDelete.code,
    "change_embargo": embargo.NotUnderEmbargo.code,
}


def available(contribution: Contribution, user: User, *, now: datetime) -> list[Action]:
    """Return every action; blocked ones say why. Nobody but the institution's stewards is offered any."""
    if not is_steward(user, contribution):
        return []
    possible = services.available_actions(contribution, user)
    if embargo.may_change(contribution, now=now):
        possible.append("change_embargo")
    obstacles = services.obstacles(contribution) if contribution.status == Status.DRAFT else []
    return [_action(name, contribution, possible, obstacles) for name in ACTIONS]


def _action(name: str, contribution: Contribution, possible: list[str], obstacles: list[DomainError]) -> Action:
    label, address, method = ACTIONS[name]
    reason = code = ""
    if name == "submit" and obstacles:
        reason, code = str(obstacles[0]), obstacles[0].code
    elif name == "change" and moved_to(contribution):
        reason, code = institutions.why_not_member(contribution.institution, "contribute"), NotAllowed.code
    elif name == "delete_files" and name not in possible:
        reason, code = deletion.why_not(contribution), CODES[name]
    elif name == "change_embargo" and name not in possible:
        reason, code = embargo.why_not(contribution), CODES[name]
    elif name not in possible:
        reason = f"{contribution} is {contribution.get_status_display().lower()}, so this is not possible now."
        code = CODES.get(name, TransitionNotAllowed.code)
    return Action(name, label, not reason, reason, reverse(address, args=[contribution.pk]), method, code)
