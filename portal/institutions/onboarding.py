"""Where an institution stands: what is done, who has it now, what comes next."""

from dataclasses import dataclass

from django.urls import reverse

from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution


@dataclass(frozen=True)
class Step:
    """One line of the checklist. `url` is where it is done, empty where the reader can do nothing."""

    label: str
    done: bool
    detail: str
    url: str = ""


@dataclass(frozen=True)
class Standing:
    """Who has the institution's file now and what they do next; `url` leads there."""

    holder: str
    next_step: str
    url: str = ""


def has_agreement(institution: Institution) -> bool:
    """Test if an agreement of the institution, or one that covers it, is in force."""
    covered = institution.covered_by.filter(request__status="active", confirmed_at__isnull=False)
    return institution.signing_requests.filter(status="active").exists() or covered.exists()


def has_contributed(institution: Institution) -> bool:
    """Test if the institution has sent anything that it has not taken back."""
    return institution.contributions.exclude(status__in=["draft", "withdrawn"]).exists()


def missing(institution: Institution) -> list[str]:
    """Return what the board usually asks for and the profile leaves open. None of it stops an application."""
    gaps = {
        "the city": not institution.city,
        "a website": not institution.website,
        "how many photographs you hold": institution.image_count is None,
        "which GPU you have": institution.gpu == Institution.Gpu.UNKNOWN,
        "the ethics reference": not institution.ethics_reference,
    }
    return [what for what, is_missing in gaps.items() if is_missing]


def checklist(institution: Institution) -> list[Step]:
    """Return the way from an account to the first contribution, for the institution's own people."""
    slug, status = institution.slug, institution.status
    sent, member = status not in {Status.DRAFT, Status.WITHDRAWN}, status == Status.MEMBER
    signed, contributed = has_agreement(institution), has_contributed(institution)
    review_url, sign_url = reverse("institutions:review", args=[slug]), reverse("agreements:sign", args=[slug])
    return [
        Step("E-mail address verified", True, "Everybody here has a verified address."),
        Step("Application sent", sent, "Profile, capacity and what may leave.", review_url),
        Step("Admitted by the board", member, "The board votes; a mail tells you the result."),
        Step("Agreement signed", signed, "By your signing official.", sign_url if member else ""),
        Step(
            "First contribution",
            contributed,
            "In the browser or with the kit.",
            reverse("contributions:new") if signed else "",
        ),
    ]


def standing(institution: Institution) -> Standing:
    """Return who acts next."""
    slug = institution.slug
    match institution.status:
        case Status.DRAFT:
            return Standing(
                "The applicants", "Review the application and send it", reverse("institutions:review", args=[slug])
            )
        case Status.APPLIED:
            return Standing("The board", "The board votes; a mail tells the result")
        case Status.DECLINED:
            return Standing("The applicants", "Read the reason; you may apply again", reverse("institutions:apply"))
        case Status.WITHDRAWN:
            return Standing("Nobody", "Taken back; you may apply again", reverse("institutions:apply"))
    if not has_agreement(institution):
        return Standing("The signing official", "Read and sign the agreement", reverse("agreements:sign", args=[slug]))
    if not has_contributed(institution):
        return Standing("The institution", "Make the first contribution", reverse("contributions:new"))
    return Standing("Nobody", "Nothing waits")
