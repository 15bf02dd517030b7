"""Where an institution stands: what is done, who has it now, what comes next and until when."""

from dataclasses import dataclass
from datetime import date

from allauth.mfa.models import Authenticator
from django.urls import reverse

from portal.accounts.models import User
from portal.institutions import profile
from portal.institutions.lifecycle import ENDED, Outcome, Status, is_editable
from portal.institutions.models import Institution, Membership, Review
from portal.notifications import outbox

Role = Membership.Role
YOU, COLLEAGUE, CONSORTIUM = "You", "A colleague", "The consortium"


@dataclass(frozen=True)
class Step:
    """One line of the checklist. `url` is where it is done, empty where the institution can do nothing."""

    name: str
    label: str
    done: bool
    detail: str
    roles: tuple[str, ...] = ()  # who of the institution does it; empty: the consortium
    url: str = ""

    def who(self, roles_held: set[str]) -> str:
        """Return who must act, for a reader who holds these roles in the institution."""
        if not self.roles:
            return CONSORTIUM
        if set(self.roles) & roles_held:
            return YOU
        return f"{COLLEAGUE} ({' or '.join(Role(role).label.lower() for role in self.roles)})"


@dataclass(frozen=True)
class Standing:
    """Who has the institution's file now and what they do next; `url` leads there; `target` is until when."""

    holder: str
    next_step: str
    url: str = ""
    target: date | None = None


MANAGERS = (Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD)


def has_agreement(institution: Institution) -> bool:
    """Test if an agreement of the institution, or one that covers it, is in force."""
    covered = institution.covered_by.filter(request__status="active", confirmed_at__isnull=False)
    return institution.signing_requests.filter(status="active").exists() or covered.exists()


def has_contributed(institution: Institution) -> bool:
    """Test if the institution has sent anything that it has not taken back."""
    return institution.contributions.exclude(status__in=["draft", "withdrawn"]).exists()


def _people(institution: Institution, *roles: str) -> list[User]:
    current = institution.memberships.current().filter(role__in=roles)
    return list(User.objects.filter(memberships__in=current, is_active=True).distinct())


def missing(institution: Institution) -> list[tuple[str, str]]:
    """Return (label, address) of the fields without an answer; none of them stops an application."""
    edit = reverse("institutions:edit", args=[institution.slug])
    return [(profile.label(name), f"{edit}#id_{name}") for name in profile.missing(institution)]


def lacks_second_factor(institution: Institution) -> list[User]:
    """Return the investigators and signing officials without a second factor."""
    people = _people(institution, Role.PRINCIPAL_INVESTIGATOR, Role.SIGNING_OFFICIAL)
    enrolled = set(Authenticator.objects.filter(user__in=people).values_list("user", flat=True))
    return [person for person in people if person.pk not in enrolled]


def unreachable(institution: Institution) -> list[User]:
    """Return the investigators and signing officials whose mail comes back."""
    people = _people(institution, Role.PRINCIPAL_INVESTIGATOR, Role.SIGNING_OFFICIAL)
    return [person for person in people if outbox.bounced_address(person) is not None]


def _review(institution: Institution) -> Review | None:
    return institution.reviews.filter(outcome=Outcome.OPEN).select_related("reviewer").first()


def checklist(institution: Institution) -> list[Step]:
    """Return the way from an account to the first contribution, for the institution's own people."""
    slug, status = institution.slug, institution.status
    sent = status in {Status.APPLIED, Status.MEMBER, Status.MERGED, Status.DECLINED}
    member = status in {Status.MEMBER, Status.MERGED}
    signed = has_agreement(institution)
    review_url = _at("review", slug) if status in {Status.DRAFT, Status.RETURNED} else ""
    return [
        Step("address", "E-mail address verified", True, "Everybody here has a verified address.", MANAGERS),
        _profile_step(institution),
        _people_step(institution),
        Step("sent", "Application sent", sent, "Read your answers back, then send.", MANAGERS, review_url),
        _review_step(institution),
        Step("admitted", "Admitted by the board", member, "The board votes; a mail tells you the result."),
        _factor_step(institution),
        _agreement_step(institution, signed=signed, member=member),
        Step(
            "contribution",
            "First contribution",
            has_contributed(institution),
            "In the browser or with the kit, once the agreement is signed.",
            (Role.STEWARD,),
            reverse("contributions:new") if signed else "",
        ),
    ]


def _at(name: str, slug: str) -> str:
    return reverse(f"institutions:{name}", args=[slug])


def _profile_step(institution: Institution) -> Step:
    gaps = len(profile.missing(institution))
    word = "One answer is" if gaps == 1 else f"{gaps} answers are"
    detail = f"{word} still open. “Not known yet” is an answer too." if gaps else "Every question has an answer."
    url = _at("edit", institution.slug) if is_editable(Status(institution.status)) else ""
    return Step("profile", "Profile complete", not gaps, detail, MANAGERS, url)


def _people_step(institution: Institution) -> Step:
    held = set(institution.memberships.current().values_list("role", flat=True))
    open_ = institution.status not in ENDED
    wanted = [Role.PRINCIPAL_INVESTIGATOR, Role.SIGNING_OFFICIAL]
    lacking = [role.label.lower() for role in wanted if role not in held]
    detail = f"Still to come: {' and '.join(lacking)}." if lacking else "Investigator and signing official are here."
    return Step(
        "people", "People are here", not lacking, detail, MANAGERS, _at("team", institution.slug) if open_ else ""
    )


def _review_step(institution: Institution) -> Step:
    review = _review(institution)
    if institution.status == Status.RETURNED:
        url = _at("edit", institution.slug)
        return Step("vetting", "Vetting", False, "The reviewer asks for changes; see each field.", MANAGERS, url)
    if review is not None:
        target = f"{review.target_on.day} {review.target_on:%B %Y}"
        return Step("vetting", "Vetting", False, f"By {role_of(review)}, target {target}.")
    done = institution.status in {Status.MEMBER, Status.MERGED}
    detail = "A reviewer of the consortium looked at the application." if done else "A reviewer looks at what you sent."
    return Step("vetting", "Vetting", done, detail)


def role_of(review: Review) -> str:
    """Return what the reviewer is in the consortium; applicants see the role, not the name."""
    roles = list(review.reviewer.consortium_roles.current()) if review.reviewer else []
    labels = [role.get_role_display().lower() for role in roles if role.role in {"operator", "board_member", "chair"}]
    if not labels:
        return "an operator"
    return f"{'an' if labels[0][0] in 'aeiou' else 'a'} {labels[0]}"


def _factor_step(institution: Institution) -> Step:
    roles = (Role.PRINCIPAL_INVESTIGATOR, Role.SIGNING_OFFICIAL)
    people = _people(institution, *roles)
    lacking = lacks_second_factor(institution)
    detail = f"{len(lacking)} of {len(people)} still need an authenticator or passkey." if people else "Nobody yet."
    if people and not lacking:
        detail = "Investigators and signing officials have one."
    return Step("factor", "Second factor set up", bool(people) and not lacking, detail, roles, reverse("mfa_index"))


# Who signs next, as the case's signing order calls them: what they are called here, and which roles that is.
SIGNERS = {
    "principal_investigator": ("The principal investigator", (Role.PRINCIPAL_INVESTIGATOR,)),
    "signing_official": ("The signing official", (Role.SIGNING_OFFICIAL,)),
    "consortium": (CONSORTIUM, ()),
}


def _agreement_next(institution: Institution) -> tuple[str, str, tuple[str, ...]]:
    """Return who takes the agreement further, what they do, and with which roles in the institution."""
    open_cases = institution.signing_requests.filter(status__in=["draft", "signing"]).select_related("agreement")
    case = open_cases.order_by("-pk").first()
    if case is None or case.status == "draft":
        step = "Send the agreement to its signers" if case else "Prepare the agreement"
        return "The institution", step, (*MANAGERS, Role.SIGNING_OFFICIAL)
    holder, roles = SIGNERS[case.agreement.signing_order[case.signatures.count()]]
    return holder, "Read and sign the agreement", roles


def _agreement_step(institution: Institution, *, signed: bool, member: bool) -> Step:
    url = reverse("agreements:sign", args=[institution.slug])
    if signed:
        return Step("agreement", "Agreement signed", True, "It is in force.", MANAGERS, url)
    if not member:
        detail = "Once you are a member, three people sign in turn."
        return Step("agreement", "Agreement signed", False, detail, (*MANAGERS, Role.SIGNING_OFFICIAL))
    holder, step, roles = _agreement_next(institution)
    return Step("agreement", "Agreement signed", False, f"{holder}: {step[0].lower()}{step[1:]}.", roles, url)


def progress(institution: Institution) -> tuple[int, int]:
    """Return how many steps are done, and of how many: the count that pages and mails both tell."""
    steps = checklist(institution)
    return sum(step.done for step in steps), len(steps)


def standing(institution: Institution) -> Standing:
    """Return who acts next."""
    slug = institution.slug
    match institution.status:
        case Status.DRAFT:
            return Standing("The applicants", "Complete the application and send it", _at("review", slug))
        case Status.APPLIED:
            review = _review(institution)
            who = f"The board; {role_of(review)} reviews it" if review else "The board"
            target = review.target_on if review else None
            return Standing(who, "The reviewer looks, the board votes; a mail tells the result", "", target)
        case Status.RETURNED:
            return Standing("The applicants", "Change what the reviewer asks for and send it again", _at("edit", slug))
        case Status.DECLINED:
            return Standing(
                "The applicants", "Read the reason; fix it and ask again, or appeal", _at("onboarding", slug)
            )
        case Status.WITHDRAWN:
            return Standing("Nobody", "Taken back; you may apply again", reverse("institutions:apply"))
        case Status.MERGED:
            return Standing("Nobody", f"Merged into {institution.merged_into}", institution.merged_into_url())
    if not has_agreement(institution):
        holder, step, _ = _agreement_next(institution)
        return Standing(holder, step, reverse("agreements:sign", args=[slug]))
    if not has_contributed(institution):
        return Standing("The institution", "Make the first contribution", reverse("contributions:new"))
    return Standing("Nobody", "Nothing waits")
