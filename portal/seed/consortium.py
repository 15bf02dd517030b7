"""The demonstration's people, institutions and signatures, all through the services."""

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal import auth as totp
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from governance.board import services as boards
from portal.accounts import services as accounts
from portal.accounts import terms
from portal.accounts.models import User
from portal.accounts.standing import standing_of
from portal.blueprint import applying
from portal.institutions import joining, memberships, pathways
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership
from portal.notifications.authenticator import DEMO_DOMAIN
from portal.programmes import services as programmes
from portal.programmes.models import Programme
from portal.seed import board, data, signing
from portal.seed.say import Say

Role = Membership.Role
ACCOUNTS_HEAD = "All demonstration accounts have the password"
RETINA = Path(programmes.__file__).parent / "blueprints" / "retina"


@dataclass
class People:
    """Who is who, for the later steps."""

    password: str
    programme: Programme
    operator: User
    auditor: User
    researcher: User
    signatory: User
    board: list[User]
    sites: dict[str, Institution] = field(default_factory=dict)

    def of(self, key: str, role: str = Role.PRINCIPAL_INVESTIGATOR) -> User:
        return institutions.people(self.sites[key], role).earliest("pk")


def seed(say: Say) -> People:
    """Create the programme, the agreement, the people and the institutions; what an earlier start left is kept."""
    say.step("People, programme and data-use agreement")
    applying.apply(RETINA, by=None, now=timezone.now() - timedelta(days=400))  # as the library stood a year ago
    people = _people()
    for site in data.SITES:
        people.sites[site.key] = Institution.objects.filter(name=site.name).first() or _site(site, people)
    signed = [site.key for site in data.SITES if site.state == "signed"]
    signing.sign_all(people.sites, signed, signatory=people.signatory)
    _choose_and_ask(people)
    board.convene(people.sites, people.board, operator=people.operator)
    _secure()
    say.step(f"{len(data.SITES)} institutions, decided by the board's votes, signed by their officials")
    return people


@transaction.atomic
def _people() -> People:
    terms.publish_shipped(now=timezone.now())
    password = _password()
    hashed = make_password(password)
    people = People(
        password=password,
        programme=Programme.objects.get(slug="retina"),
        operator=_user("Olu Adeyemi", hashed, email="operator@demo.example"),
        auditor=_user("Greta Vogel", hashed, email="auditor@demo.example"),
        researcher=_user("Noor Haddad", hashed, email="researcher@demo.example"),
        signatory=_user("Prof. Inês Duarte", hashed, email="signatory@demo.example"),
        board=[_user(name, hashed) for name in data.BOARD],
    )
    _appoint(people.operator, "operator")
    _appoint(people.auditor, "auditor")
    _appoint(people.signatory, "signatory")
    for number, member in enumerate(people.board):
        _appoint(member, "board_member" if number else "chair")
    return people


def _password() -> str:
    """Return the demonstration's password: made once, kept in the accounts file."""
    path = settings.DATA_DIR / "demo_accounts.txt"
    if path.exists():
        return path.read_text(encoding="utf-8").splitlines()[0].rpartition(" ")[2]
    password = "-".join(["retina", *(secrets.token_hex(2) for _ in range(3))])
    path.touch(mode=0o600)
    path.write_text(f"{ACCOUNTS_HEAD} {password}\n", encoding="utf-8")
    return password


@transaction.atomic
def _secure() -> None:
    """Let everybody accept the terms, and give those whose roles need it an authenticator app (its codes on a page)."""
    newest = terms.current()
    for user in User.objects.filter(email__endswith=DEMO_DOMAIN):
        if newest is not None:
            terms.accept(newest, by=user, now=timezone.now())
        if standing_of(user).owes_second_factor:
            totp.TOTP.activate(user, totp.generate_totp_secret())


def _appoint(user: User, role: str) -> None:
    if not accounts.has_role(user, role):
        accounts.appoint(user, role, by=None, now=timezone.now())


def _user(name: str, hashed: str, *, email: str = "") -> User:
    email = email or f"{slugify(name.removeprefix('Prof. ').removeprefix('Dr '))}@demo.example"
    existing = User.objects.filter(email=email).first()
    if existing is not None:
        return existing
    user = User.objects.create(email=email, name=name, password=hashed)
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user


@transaction.atomic
def _site(site: data.Site, people: People) -> Institution:
    """Take one institution through the real steps to its state."""
    hashed = people.operator.password
    investigator = _user(site.investigator, hashed)
    institution = institutions.start_application(
        by=investigator,
        now=timezone.now(),
        role=Role.PRINCIPAL_INVESTIGATOR,
        name=site.name,
        country=site.country,
        city=site.city,
        kind=site.kind,
        **site.profile,
    )
    if site.state == "draft":
        return institution
    for role, label in ((Role.STEWARD, "Steward"), (Role.SIGNING_OFFICIAL, "Signing official")):
        person = _user(f"{label} of {site.name}", hashed, email=f"{role.value.split('_')[0]}.{site.key}@demo.example")
        _join(institution, person, role, by=investigator)
    institutions.apply(institution, by=investigator, now=timezone.now())
    motion = boards.refer_institution(institution.pk, now=timezone.now())
    if motion is not None and site.state == "withdrawn":
        institutions.withdraw(institution, by=investigator, now=timezone.now())
        boards.close_moot(now=timezone.now())
    elif motion is not None and site.state == "returned":
        institutions.return_for_changes(
            institution, comments=data.RETURNED_WITH, note=data.RETURNED_NOTE, by=people.operator, now=timezone.now()
        )
        boards.close_moot(now=timezone.now())
    elif motion is not None and site.state == "declined":
        board.decline(motion, people.board)
    elif motion is not None and site.state in {"member", "signed"}:
        board.admit(motion, people.board, condition=data.CONDITION if site.key == "prairie" else "")
    institution.refresh_from_db()
    return institution


@transaction.atomic
def _choose_and_ask(people: People) -> None:
    """Let institutions choose what they contribute, and the researcher ask to join one."""
    now = timezone.now()
    for key, kinds in data.CHOSEN.items():
        if not people.sites[key].pathway_choices.exists():
            pathways.choose(people.sites[key], kinds, by=people.of(key), now=now)
    key, role, message = data.JOINS
    if not people.researcher.join_requests.exists():
        joining.ask(people.sites[key], role=role, message=message, by=people.researcher, now=now)


def _join(institution: Institution, person: User, role: str, *, by: User) -> None:
    """Invite, and accept with the secret that the invitation's mail will carry."""
    _, secret = memberships.invite(institution, email=person.email, role=role, by=by, now=timezone.now())
    memberships.accept_invitation(secret, by=person, verified_emails={person.email}, now=timezone.now())


def write_accounts(people: People) -> None:
    """Write who can sign in to the accounts file in the data folder, which only its owner can read."""
    rows = [
        ("Board, chair", people.board[0]),
        ("Board member", people.board[1]),
        ("Board member, and investigator of Ganga Retina Institute (recused there)", people.board[4]),
        ("Data steward of Ganga Retina Institute", people.of("ganga", Role.STEWARD)),
        ("Signing official of Volta Teaching Hospital (has not signed yet)", people.of("volta", Role.SIGNING_OFFICIAL)),
        ("Signatory of the consortium (countersigns agreements)", people.signatory),
        ("Operator", people.operator),
        ("Auditor", people.auditor),
        ("Researcher", people.researcher),
    ]
    lines = [f"  {user.email:<45} {what}" for what, user in rows]
    lines.append(
        f"Those who sign, decide or operate are asked for a code: {settings.PORTAL_URL}/mailbox/authenticator/"
    )
    text = "\n".join([f"{ACCOUNTS_HEAD} {people.password}", *lines, ""])
    (settings.DATA_DIR / "demo_accounts.txt").write_text(text, encoding="utf-8")
