"""Where an institution stands under an agreement, and the one question: may it do this now?"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus

from django.db import models
from django.urls import reverse

from portal.accounts.models import User
from portal.agreements import terms
from portal.agreements.lifecycle import OPEN, Status
from portal.agreements.models import Agreement, AgreementVersion, CoveredInstitution, Side, SigningRequest
from portal.errors import DomainError
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution
from portal.programmes.models import Programme

EXPIRING_DAYS = 60


class State(models.TextChoices):
    NONE = "none", "Not started"
    DRAFT = "draft", "Being prepared"
    SIGNING = "signing", "Being signed"
    ACTIVE = "active", "Active"
    EXPIRING = "expiring", "Active, expires soon"
    RECONSENT_DUE = "reconsent_due", "A new version is to be signed"
    GRACE = "grace", "The new version is overdue"
    ENDING = "ending", "Active until a notice runs out"
    BLOCKED = "blocked", "Work stopped: the new version is not signed"
    EXPIRED = "expired", "Expired"
    TERMINATED = "terminated", "Terminated"


IN_FORCE = [State.ACTIVE, State.EXPIRING, State.RECONSENT_DUE, State.GRACE, State.ENDING]  # best first; work goes on


class Action(models.TextChoices):
    CONTRIBUTE_WEIGHTS = "contribute_weights", "contribute weights"
    CONTRIBUTE_SYNTHETIC = "contribute_synthetic", "contribute synthetic images"
    CONTRIBUTE_IMAGES = "contribute_images", "contribute photographs"
    DOWNLOAD = "download", "download base models"


# The kind of contribution that an action is about; a base model is downloaded to make weights of it.
KIND_OF = {
    Action.CONTRIBUTE_WEIGHTS: "weights",
    Action.CONTRIBUTE_SYNTHETIC: "synthetic",
    Action.CONTRIBUTE_IMAGES: "images",
    Action.DOWNLOAD: "weights",
}
ACTION_OF_KIND = {action.removeprefix("contribute_"): action for action in Action if action != Action.DOWNLOAD}

CODE_OF = {
    State.NONE: "agreement_required",
    State.DRAFT: "agreement_waiting",
    State.SIGNING: "agreement_waiting",
    State.BLOCKED: "reconsent_overdue",
    State.EXPIRED: "agreement_expired",
    State.TERMINATED: "agreement_terminated",
}
REASON_OF = {
    State.NONE: "{institution} has not signed the {title}. Prepare it and sign it; everything you have begun is kept.",
    State.DRAFT: "The {title} of {institution} is being prepared. Send it to its signers; your draft is kept.",
    State.SIGNING: "The {title} of {institution} waits for signatures. It counts once the last one is there.",
    State.ACTIVE: "{institution} has the {title} in force.",
    State.EXPIRING: "The {title} of {institution} expires after {due_on}. Renew it in time.",
    State.RECONSENT_DUE: "A new version of the {title} changes what matters. {institution} has until {due_on} to "
    "sign it.",
    State.GRACE: "{institution} was to sign the new version of the {title} by {due_on}. New work stops on "
    "{blocked_on}.",
    State.BLOCKED: "{institution} has not signed the new version of the {title}; it was due on {due_on}. New uploads "
    "and downloads wait for it. What is here stays.",
    State.EXPIRED: "The {title} of {institution} expired after {due_on}. Renew it to go on; what is here stays.",
    State.ENDING: "The consortium has given notice: the {title} of {institution} is in force until {due_on}. After it "
    "new uploads and downloads stop; what is here stays.",
    State.TERMINATED: "The {title} of {institution} was terminated{by}. It can be signed anew; what is here stays.",
}


@dataclass(frozen=True)
class Standing:
    """
    Where one institution stands under one agreement on one day.

    `due_on` is the last day on time (to sign again, or of validity), `blocked_on` the first day on which work stops.
    `kinds` are those that the cases in force name, None where one of them limits none.
    """

    state: State
    request: SigningRequest | None = None
    due_on: date | None = None
    blocked_on: date | None = None
    reason: str = ""
    kinds: frozenset[str] | None = None

    @property
    def in_force(self) -> bool:
        return self.state in IN_FORCE


@dataclass(frozen=True)
class Decision:
    """The answer for pages, API, kit and workers: yes; or no with a code, a sentence, and where to settle it."""

    allowed: bool
    code: str = ""
    reason: str = ""
    next_url: str = ""


class AgreementRequired(DomainError):
    """No agreement in force lets the institution do this; `code` says which of the reasons it is."""

    status = HTTPStatus.FORBIDDEN

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason, next_url=decision.next_url)
        self.code = decision.code


def judged(
    *, expires_on: date | None, material: Iterable[date], reconsent_days: int, grace_days: int, today: date
) -> tuple[State, date | None, date | None]:
    """
    Return state, `due_on` and `blocked_on` of an agreement that became active, by dates alone.

    Args:
        material: the days on which material versions later than the signed one were published.
    """
    asked = min(material, default=None)
    sign_by = asked + timedelta(days=reconsent_days) if asked else None
    stops = [sign_by + timedelta(days=grace_days + 1)] if sign_by else []
    ends = [*stops, *([expires_on + timedelta(days=1)] if expires_on else [])]
    blocked_on = min(ends, default=None)
    if expires_on and today > expires_on:
        return State.EXPIRED, expires_on, blocked_on
    if sign_by:
        state = State.BLOCKED if today >= stops[0] else State.GRACE if today > sign_by else State.RECONSENT_DUE
        return state, sign_by, blocked_on
    if expires_on and (expires_on - today).days <= EXPIRING_DAYS:
        return State.EXPIRING, expires_on, blocked_on
    return State.ACTIVE, expires_on, blocked_on


def day_of(moment: datetime) -> date:
    """Return the UTC day of a moment: every deadline of an agreement is a day in UTC."""
    return moment.astimezone(UTC).date()


def standing(institution: Institution, agreement: Agreement, *, now: datetime) -> Standing:
    """Return where an institution stands under an agreement."""
    return standings([institution], [agreement], now=now)[institution.pk, agreement.pk]


def standings(
    parties: Collection[Institution], agreements: Collection[Agreement], *, now: datetime
) -> dict[tuple[int, int], Standing]:
    """Return standing() of every pair, by their keys, in three queries however many there are."""
    cases = _cases_by_party(parties, agreements)
    material = _material_by_agreement(agreements)
    today = day_of(now)
    return {
        (party.pk, agreement.pk): _standing(
            party, agreement, cases[party.pk, agreement.pk], material[agreement.pk], today
        )
        for party in parties
        for agreement in agreements
    }


def _cases_by_party(
    parties: Collection[Institution], agreements: Collection[Agreement]
) -> dict[tuple[int, int], list[SigningRequest]]:
    """Return the cases in which each institution signs or is covered; texts, which are long, stay in the database."""
    rows = (
        SigningRequest.objects.filter(agreement__in=agreements)
        .exclude(status__in=[Status.DECLINED, Status.WITHDRAWN, Status.SUPERSEDED])
        .select_related("agreement_version__agreement__programme", "institution")
        .defer("text", "agreement_version__text", "agreement_version__side_notes")
        .order_by("pk")
    )
    keys = [party.pk for party in parties]
    found: dict[tuple[int, int], list[SigningRequest]] = defaultdict(list)
    for case in rows.filter(institution__in=keys):
        found[case.institution_id, case.agreement_id].append(case)
    covers = CoveredInstitution.objects.filter(institution__in=keys, confirmed_at__isnull=False)
    covered = covers.values_list("request", "institution")
    by_key = {case.pk: case for case in rows.filter(covered__in=covers)} if covered else {}
    for request_id, institution_id in covered:
        if request_id in by_key:
            found[institution_id, by_key[request_id].agreement_id].append(by_key[request_id])
    return found


def _material_by_agreement(agreements: Collection[Agreement]) -> dict[int, list[tuple[int, date]]]:
    rows = AgreementVersion.objects.filter(agreement__in=agreements, is_material=True)
    found: dict[int, list[tuple[int, date]]] = defaultdict(list)
    for agreement_id, version, published_at in rows.values_list("agreement", "version", "published_at"):
        found[agreement_id].append((version, day_of(published_at)))
    return found


def _standing(
    party: Institution,
    agreement: Agreement,
    cases: list[SigningRequest],
    material: list[tuple[int, date]],
    today: date,
) -> Standing:
    """Return the best standing that one of the cases gives; ended ones count only where none is open."""
    judgements = [(*_judged(case, agreement, material, today), case) for case in cases if case.activated_at is not None]
    order = [*IN_FORCE, State.BLOCKED]
    living = sorted((row for row in judgements if row[0] in order), key=lambda row: order.index(row[0]))
    opened = [case for case in cases if case.status in OPEN]
    if living:
        state, due_on, blocked_on, case = living[0]
    elif opened:
        state, due_on, blocked_on, case = max(
            ((State(row.status), None, None, row) for row in opened),
            key=lambda found: (found[0] == State.SIGNING, found[3].pk),
        )
    elif judgements:
        state, due_on, blocked_on, case = judgements[-1]
    else:
        return Standing(State.NONE, reason=_reason(State.NONE, party, agreement))
    kinds = _kinds([row[3] for row in living if row[0] in IN_FORCE])
    return Standing(state, case, due_on, blocked_on, _reason(state, party, agreement, due_on, blocked_on, case), kinds)


def _kinds(cases: list[SigningRequest]) -> frozenset[str] | None:
    named = [terms.kinds_of(case) for case in cases]
    return None if None in named else frozenset().union(*filter(None, named))


def _judged(
    case: SigningRequest, agreement: Agreement, material: list[tuple[int, date]], today: date
) -> tuple[State, date | None, date | None]:
    if case.status == Status.TERMINATED or (case.ends_on and today > case.ends_on):
        return State.TERMINATED, None, None
    if case.status == Status.EXPIRED:
        return State.EXPIRED, case.expires_on, None
    state, due_on, blocked_on = judged(
        expires_on=case.expires_on,
        material=[day for version, day in material if version > case.agreement_version.version],
        reconsent_days=agreement.reconsent_days,
        grace_days=agreement.grace_days,
        today=today,
    )
    if case.ends_on and state in IN_FORCE:
        stops = case.ends_on + timedelta(days=1)
        return State.ENDING, case.ends_on, min(stops, blocked_on or stops)
    return state, due_on, blocked_on


def _reason(
    state: State,
    party: Institution,
    agreement: Agreement,
    due_on: date | None = None,
    blocked_on: date | None = None,
    case: SigningRequest | None = None,
) -> str:
    words = {
        "due_on": f"{due_on:%-d %B %Y}" if due_on else "",
        "blocked_on": f"{blocked_on:%-d %B %Y}" if blocked_on else "",
        "by": _by(case, party) if case else "",
    }
    return REASON_OF[state].format(institution=party, title=_title(agreement), **words)


def _title(agreement: Agreement) -> str:
    return agreement.title[0].lower() + agreement.title[1:]


def _by(case: SigningRequest, party: Institution) -> str:
    """Say which side ended the case; of old cases it is not on record."""
    institution = " by the institution" if case.institution_id == party.pk else f" by {case.institution}"
    return {Side.CONSORTIUM.value: " by the consortium", Side.INSTITUTION.value: institution}.get(case.ended_by, "")


def next_url(party: Institution, agreement: Agreement, place: Standing) -> str:
    """Return where the institution's people settle what is open: the case on its way, else the page to begin one."""
    if place.request is not None and place.state in {State.DRAFT, State.SIGNING}:
        return place.request.get_absolute_url()
    return reverse("agreements:sign", args=[party.slug, agreement.programme.slug, agreement.slug])


def may(
    institution: Institution, action: str, *, programme: Programme | None = None, sent: bool = False, now: datetime
) -> Decision:
    """
    Answer whether the institution may do this now: the one place where it is decided.

    Without a programme: whether it may in any; the refusal is then the one of the first programme.

    Args:
        sent: whether it is sent already. A merger since then changes nothing: the agreement it was sent under counts.
    """
    if institution.status != InstitutionStatus.MEMBER and not (sent and institution.merged_into_id):
        reason = institutions.why_not_member(institution, str(Action(action).label))
        return Decision(False, "not_member", reason, institution.get_absolute_url())
    rows = Agreement.objects.filter(versions__isnull=False).select_related("programme").distinct()
    if programme is not None:
        rows = rows.filter(programme=programme)
    by_programme: dict[int, list[Agreement]] = defaultdict(list)
    for row in rows.order_by("programme", "pk"):
        if KIND_OF[Action(action)] in row.covers:
            by_programme[row.programme_id].append(row)
    decisions = [_decided(institution, needed, action, now=now) for needed in by_programme.values()]
    nothing = Decision(
        False, "agreement_required", "No agreement for this has been published yet.", reverse("agreements:list")
    )
    return next((row for row in decisions if row.allowed), decisions[0] if decisions else nothing)


def _decided(institution: Institution, needed: list[Agreement], action: str, *, now: datetime) -> Decision:
    """Return yes where every agreement needed is in force and signed for the kind, else the first that is not."""
    places = standings([institution], needed, now=now)
    for agreement in needed:
        place = places[institution.pk, agreement.pk]
        if not place.in_force:
            return Decision(False, CODE_OF[place.state], place.reason, next_url(institution, agreement, place))
        # Who signed for synthetic images alone downloads a base model too: the images are drawn from it.
        if action != Action.DOWNLOAD and place.kinds is not None and KIND_OF[Action(action)] not in place.kinds:
            return _not_signed_for(institution, agreement, place.kinds, KIND_OF[Action(action)])
    return Decision(True)


def _not_signed_for(party: Institution, agreement: Agreement, signed: frozenset[str], wanted: str) -> Decision:
    names = [words for kind, words in terms.KINDS.items() if kind in signed]
    reason = (
        f"{party} signed the {_title(agreement)} for {' and '.join(names)}, not for "
        f"{terms.KINDS[wanted]}. Prepare it again with this kind and have it signed; everything you have begun is kept."
    )
    url = reverse("agreements:prepare", args=[party.slug, agreement.programme.slug, agreement.slug])
    return Decision(False, "kind_not_signed", reason, url)


def require(institution: Institution, action: str, *, programme: Programme | None = None, now: datetime) -> None:
    """Raise AgreementRequired, saying why and where to settle it, unless may() allows."""
    decision = may(institution, action, programme=programme, now=now)
    if not decision.allowed:
        raise AgreementRequired(decision)


def may_download(user: User, programme: Programme, *, now: datetime) -> Decision:
    """Answer whether a person may download base models: through an institution, or by serving the consortium."""
    if user.consortium_roles.current().exists():
        return Decision(True)
    decisions = [
        may(institution, Action.DOWNLOAD, programme=programme, now=now)
        for institution in institutions.institutions_of(user).order_by("pk")
    ]
    nowhere = Decision(
        False,
        "not_member",
        "Base models are for people of member institutions. Ask yours for an invitation, or apply with it.",
        reverse("join"),
    )
    return next((row for row in decisions if row.allowed), decisions[0] if decisions else nowhere)
