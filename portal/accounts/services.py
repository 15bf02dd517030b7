"""What happens to people: consortium roles, API tokens, signing in from the kit."""

import hashlib
import secrets
import unicodedata
from collections import defaultdict
from datetime import date, datetime, timedelta
from http import HTTPStatus

from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from portal import live
from portal.accounts.models import ApiToken, ConsortiumRole, DeviceLogin, User
from portal.accounts.standing import standing_of
from portal.audit import services as audit
from portal.errors import DomainError

TOKEN_DAYS = 90
TOKEN_LIVES = [7, 30, 90]  # days that a person can choose from
PREFIX_LETTERS = 8  # `grf_` and four of 43: enough to know a token again, no help to guess it
DEVICE_MINUTES = 15
POLL_SECONDS = 3
TITLES = {"dr", "prof", "professor", "md", "phd", "mr", "mrs", "ms"}
Scope = ApiToken.Scope
SEATED = ["board_member", "chair"]


class DeviceLoginRefused(DomainError):
    """The device code is unknown, too old, denied, or not approved yet."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LastOperator(DomainError):
    """Nobody would be left who can appoint people."""

    code = "last_operator"


class AccountErased(DomainError):
    """Nobody is there any more who could hold a role."""

    code = "account_erased"


def digest_of(secret: str) -> str:
    """Return the SHA-256 (hex) under which a secret is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


@transaction.atomic
def appoint(
    user: User,
    role: str,
    *,
    programme: models.Model | None = None,
    term_ends_on: date | None = None,
    by: User | None,
    now: datetime,
) -> ConsortiumRole:
    """Give a person a role in the consortium: in every programme, or a seat on the board of one; for a term or not."""
    require_not_erased(user)
    programme_id = programme.pk if programme else None
    row = ConsortiumRole.objects.create(
        user=user, role=role, programme_id=programme_id, started_at=now, term_ends_on=term_ends_on
    )
    audit.record("role.given", user, by=by, role=role, programme=programme_id, role_id=row.pk)
    return row


def require_not_erased(user: User) -> None:
    """Raise AccountErased; else nobody erases the account until the end of the transaction."""
    if User.objects.select_for_update(no_key=True).get(pk=user.pk).erased_at is not None:
        raise AccountErased("This account was erased, so it holds no role any more. Choose somebody else.")


@transaction.atomic
def end_role(role: ConsortiumRole, *, by: User | None, now: datetime) -> ConsortiumRole:
    """End a role in the consortium; open pages of the person ask again what they may show."""
    operators = ConsortiumRole.objects.current().filter(role=ConsortiumRole.Role.OPERATOR)
    # Of two who end each other's role the second waits here; all lock them by number, as an erasure does.
    list(ConsortiumRole.objects.filter(Q(pk=role.pk) | Q(pk__in=operators)).select_for_update().order_by("pk"))
    role = ConsortiumRole.objects.get(pk=role.pk)
    if role.role == ConsortiumRole.Role.OPERATOR and not operators.exclude(pk=role.pk).exists():
        raise LastOperator(f"{role.user} is the only operator. Appoint another first: else nobody could.")
    if role.ended_at is None:
        role.ended_at = now
        role.save(update_fields=["ended_at"])
        audit.record("role.ended", role.user, by=by, role=role.role, role_id=role.pk)
        live.recheck(role.user_id)
    return role


def end_due_terms(*, now: datetime) -> None:
    """End the roles whose last day has passed; called by the sweep."""
    for role in ConsortiumRole.objects.current().filter(term_ends_on__lt=now.date()):
        end_role(role, by=None, now=now)


def has_role(user: User | AnonymousUser, *roles: str) -> bool:
    """Test if the person holds one of the consortium roles today, in every programme: a seat in one is not enough."""
    held = ConsortiumRole.objects.current().everywhere()
    return user.is_authenticated and held.filter(user=user, role__in=roles).exists()


def programmes_seated(user: User | AnonymousUser) -> set[int | None]:
    """Return the ids of the programmes on whose board the person has a seat today; None stands for every one."""
    if not user.is_authenticated:
        return set()
    seats = ConsortiumRole.objects.current().filter(user=user, role__in=SEATED)
    return set(seats.values_list("programme", flat=True))


def seated(programme: models.Model | None) -> QuerySet[User]:
    """Return the board of a programme: who holds a seat in it or in every one. None: only those with every one."""
    seats = ConsortiumRole.objects.current().filter(role__in=SEATED)
    own = Q(programme__isnull=True) | Q(programme=programme.pk) if programme else Q(programme__isnull=True)
    return User.objects.filter(consortium_roles__in=seats.filter(own), is_active=True).distinct().order_by("name")


def chairs_of(programme: models.Model) -> QuerySet[User]:
    """Return who chairs the board of a programme, or every board."""
    own = Q(programme__isnull=True) | Q(programme=programme.pk)
    roles = ConsortiumRole.objects.current().filter(own, role="chair")
    return User.objects.filter(consortium_roles__in=roles, is_active=True).distinct()


def is_auditor(user: User) -> bool:
    """Test if the person may read the audit log and everything else, and change nothing."""
    return has_role(user, "auditor", "operator", "chair")


def needs_second_factor(user: User) -> bool:
    """Test if the person holds a role that binds an institution or the consortium, and so needs a second factor."""
    return standing_of(user).needs_second_factor


def look_alikes() -> list[list[User]]:
    """Return groups of open accounts that look like one person: the same spelled name, at the same e-mail domain."""
    groups: dict[tuple[str, str], list[User]] = defaultdict(list)
    for user in User.objects.filter(is_active=True).exclude(name="").only("pk", "name", "email").order_by("pk"):
        groups[spelled(user.name), user.email.rpartition("@")[2].lower()].append(user)
    return [group for group in groups.values() if len(group) > 1]


def spelled(name: str) -> str:
    """Return a name without what two keyboards write differently: accents, width, case, titles, spaces, dots."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    kept = "".join(letter if letter.isalnum() else " " for letter in letters if not unicodedata.combining(letter))
    return " ".join(word for word in kept.split() if word not in TITLES)


def verified_emails(user: User | AnonymousUser) -> set[str]:
    """Return the addresses that the person has proved to read."""
    if not user.is_authenticated:
        return set()
    return set(EmailAddress.objects.filter(user=user, verified=True).values_list("email", flat=True))


@transaction.atomic
def rename(user: User, *, name: str) -> User:
    """Change the name that will stand under signatures; those that are made keep the name they were made with."""
    before = User.objects.select_for_update().get(pk=user.pk).name
    user.name = name
    user.save(update_fields=["name"])
    if name != before:
        audit.record("account.renamed", user, by=user)
    return user


@transaction.atomic
def create_token(user: User, *, name: str, now: datetime, scope: str = Scope.MANAGE, days: int = TOKEN_DAYS) -> str:
    """Make a personal API token and return it; it is shown once and only its digest is kept."""
    token = f"grf_{secrets.token_urlsafe(32)}"
    row = ApiToken.objects.create(
        user=user,
        name=name,
        scope=scope,
        prefix=token[:PREFIX_LETTERS],
        digest=digest_of(token),
        created_at=now,
        expires_at=now + timedelta(days=days),
    )
    audit.record("token.created", row, by=user, scope=scope, days=days)
    return token


@transaction.atomic
def revoke_token(token: ApiToken, *, by: User, now: datetime) -> None:
    """End a token; the kit that holds it is signed out."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now):
        audit.record("token.revoked", token, by=by)


def user_of_bearer(header: str) -> User | None:
    """Return the person of an `Authorization: Bearer ...` header, or None."""
    token = token_of_bearer(header)
    return token.user if token else None


def token_of_bearer(header: str) -> ApiToken | None:
    """Return the live token of an `Authorization: Bearer ...` header, with its person, or None."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    now = timezone.now()
    live = Q(revoked_at__isnull=True, expires_at__gt=now, user__is_active=True)
    row = ApiToken.objects.select_related("user").filter(live, digest=digest_of(token.strip())).first()
    if row is None:
        return None
    if row.last_used_at is None or now - row.last_used_at > timedelta(minutes=1):  # not a write per request
        ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
    return row


@transaction.atomic
def end_access(user: User, *, now: datetime) -> None:
    """
    End every session, token and socket of a person; to come back, they sign in again as what they then are.

    The rows of sessions stay, empty and expired, so that the request that caused this can still be answered.
    """
    User.objects.filter(pk=user.pk).update(session_generation=F("session_generation") + 1)
    tracked = UserSession.objects.filter(user=user)
    Session.objects.filter(session_key__in=tracked.values("session_key")).update(session_data="", expire_date=now)
    tracked.delete()
    ApiToken.objects.filter(user=user, revoked_at=None).update(revoked_at=now)
    DeviceLogin.objects.filter(approved_by=user, used_at=None).update(denied_at=now)
    audit.record("account.access_ended", user, by=None)
    live.recheck(user.pk)


@transaction.atomic
def close_account(user: User, *, by: User, now: datetime) -> None:
    """Close an account for signing in; its record and its roles stay."""
    User.objects.filter(pk=user.pk).update(is_active=False)
    audit.record("account.closed", user, by=by)
    end_access(user, now=now)


@transaction.atomic
def reopen_account(user: User, *, by: User) -> None:
    """Let a closed account sign in again; an erased one cannot."""
    if User.objects.filter(pk=user.pk, is_active=False, erased_at=None).update(is_active=True):
        audit.record("account.reopened", user, by=by)


def begin_device_login(*, client_name: str, now: datetime) -> tuple[DeviceLogin, str]:
    """Open a device login; return it and the secret code that the kit polls with."""
    device_code = secrets.token_urlsafe(32)
    login = DeviceLogin.objects.create(
        digest=digest_of(device_code),
        client_name=client_name[:100] or "kit",
        created_at=now,
        expires_at=now + timedelta(minutes=DEVICE_MINUTES),
    )
    return login, device_code


def waiting_device_login(user_code: str, *, now: datetime) -> DeviceLogin | None:
    """Return the device login that shows this code and waits for an answer, or None."""
    waiting = DeviceLogin.objects.filter(expires_at__gt=now, approved_by=None, denied_at=None, used_at=None)
    return waiting.filter(user_code=user_code.strip().upper()).first()


@transaction.atomic
def answer_device_login(user_code: str, *, approve: bool, by: User, now: datetime) -> DeviceLogin:
    """Approve or deny the kit that shows `user_code`."""
    login = DeviceLogin.objects.select_for_update().filter(user_code=user_code.strip().upper()).first()
    if login is None or login.expires_at <= now or login.approved_by_id or login.denied_at or login.used_at:
        raise DeviceLoginRefused("expired", "This code is not waiting any more. Run `consortium login` again.")
    if approve:
        login.approved_by = by
    else:
        login.denied_at = now
    login.save(update_fields=["approved_by", "denied_at"])
    audit.record("device.approved" if approve else "device.denied", login, by=by)
    return login


@transaction.atomic
def redeem_device_login(device_code: str, *, now: datetime) -> str:
    """Return the token of an approved device login, once."""
    login = DeviceLogin.objects.select_for_update().filter(digest=digest_of(device_code)).first()
    if login is None or login.used_at is not None or login.expires_at <= now:
        raise DeviceLoginRefused("expired", "This sign-in has ended. Run `consortium login` again.")
    if login.denied_at is not None:
        raise DeviceLoginRefused("denied", "The sign-in was refused in the browser.")
    if login.approved_by is None:
        raise DeviceLoginRefused("authorization_pending", "Nobody has approved the code yet.")
    login.used_at = now
    login.save(update_fields=["used_at"])
    return create_token(login.approved_by, name=login.client_name, now=now, scope=Scope.CONTRIBUTE)
