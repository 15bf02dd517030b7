"""The demonstration's agreements: three signatures each; one expires, one waits, one was declined, one is to renew."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from portal.accounts.models import User
from portal.agreements import duo, shipped
from portal.agreements import services as agreements
from portal.agreements.models import Agreement, SigningRequest
from portal.agreements.rendering import variables_of
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership

Role = Membership.Role
SIGNED_FIRST = "thames"  # under version 1: to be asked again once version 2 is published
WAITS_FOR_OFFICIAL, DECLINED, EXPIRES_SOON = "volta", "prairie", "savanna"
DECLINED_BECAUSE = "Our statutes want 30 days' notice before a country of storage changes. We would sign a later text."


def _publish(agreement: Agreement, name: str, change_note: str, *, deletion_days: int, now: datetime) -> None:
    fields = shipped.entry(name).fields()
    agreements.publish(agreement, **fields, change_note=change_note, deletion_days=deletion_days, by=None, now=now)


def sign_all(sites: dict[str, Institution], signed: list[str], *, signatory: User) -> None:
    """Let each institution come to its state; what an earlier start left is kept."""
    now = timezone.now()
    dua, annex = (Agreement.objects.get(slug=slug) for slug in ("data-use-agreement", "annex-images"))
    _sign(sites[SIGNED_FIRST], dua, signatory, now=now - timedelta(days=200))
    if dua.versions.count() == 1:
        _publish(dua, "dua-2", shipped.DUA_2_CHANGE_NOTE, deletion_days=14, now=now - timedelta(days=20))
    for key in signed:
        _sign(sites[key], dua, signatory, now=now)
    _sign(sites[EXPIRES_SOON], annex, signatory, now=now - timedelta(days=340))
    _sign(sites[WAITS_FOR_OFFICIAL], dua, signatory, times=1, now=now - timedelta(days=3))
    if not dua.requests.filter(institution=sites[DECLINED]).exists():
        case = _sign(sites[DECLINED], dua, signatory, times=1, now=now - timedelta(days=9))
        official = institutions.people(sites[DECLINED], Role.SIGNING_OFFICIAL).earliest("pk")
        agreements.decline(case, by=official, reason=DECLINED_BECAUSE, now=now - timedelta(days=2))


@transaction.atomic
def _sign(
    institution: Institution, agreement: Agreement, signatory: User, *, now: datetime, times: int = 3
) -> SigningRequest:
    """Prepare, send, and sign `times` times; nothing where the institution has begun already."""
    begun = agreement.requests.filter(institution=institution).first()
    if begun is not None:
        return begun
    investigator = institutions.people(institution, Role.PRINCIPAL_INVESTIGATOR).earliest("pk")
    variables = _variables(institution, agreement, investigator)
    case = agreements.prepare(agreement, institution, variables=variables, by=investigator, now=now)
    case = agreements.send(case, by=investigator, now=now)
    official = institutions.people(institution, Role.SIGNING_OFFICIAL).earliest("pk")
    for number, signer in enumerate([investigator, official, signatory][:times]):
        party = agreements.order_of(case)[number]
        agreements.sign(
            case,
            by=signer,
            typed_name=signer.name,
            authority=agreements.AUTHORITY[party],
            authentication=["demonstration"],
            ip_address=None,
            user_agent="seed_demo",
            now=now + timedelta(minutes=10 * number),
        )
    case.refresh_from_db()
    return case


def _variables(institution: Institution, agreement: Agreement, investigator: User) -> dict[str, str | list[str]]:
    version = agreements.newest_of(agreement)
    assert version is not None
    answers: dict[str, str | list[str]] = {
        "institution": institution.name,
        "principal_investigator": investigator.name,
        "ethics_reference": institution.ethics_reference or "waived: no personal data leaves the institution",
        "kinds": ["generator weights", "synthetic images made by the institution"],
        "use_codes": duo.described(["HMB", "NCU"]),
        "purposes": "Training, evaluation and publication of models within the programme, for non-commercial research",
        "transfer_limits": institution.regulation_note or "none",
    }
    return {name: value for name, value in answers.items() if name in variables_of(version.text)}
