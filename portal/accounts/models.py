"""People: accounts, their consortium roles, their API tokens, the terms they accepted."""

import secrets
from typing import ClassVar

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from portal.audit.people import reference

ERASED_DOMAIN = "erased.invalid"  # of the address that an erased account keeps, by its number; no such mail exists


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person, known by a verified e-mail address. A superuser can neither sign nor vote."""

    username = None  # type: ignore[assignment]
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, help_text="As it should stand under a signature, in any script.")
    session_generation = models.PositiveIntegerField(default=0, editable=False, help_text="One more ends all sessions.")
    erased_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="What named the person is gone.")

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    class Meta(AbstractUser.Meta):
        abstract = False
        constraints = [
            models.CheckConstraint(
                condition=Q(erased_at__isnull=True) | Q(is_active=False, is_staff=False, is_superuser=False),
                name="erased_account_is_closed",
            )
        ]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def audit_name(self) -> str:
        return reference(self)

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Tie sessions to the password, as Django does, and to the generation of sessions."""
        value = f"{self.password}{self.session_generation or ''}"
        return salted_hmac("portal.accounts.models.User", value, secret=secret, algorithm="sha256").hexdigest()

    def get_full_name(self) -> str:
        return self.name

    def get_short_name(self) -> str:
        return self.name


class ConsortiumRoleQuerySet(models.QuerySet["ConsortiumRole"]):
    def current(self) -> "ConsortiumRoleQuerySet":
        return self.filter(ended_at__isnull=True)

    def everywhere(self) -> "ConsortiumRoleQuerySet":
        """Roles that are not limited to one programme."""
        return self.filter(programme__isnull=True)


class ConsortiumRole(models.Model):
    """A role in the consortium itself, with dates; roles in an institution are its memberships."""

    class Role(models.TextChoices):
        BOARD_MEMBER = "board_member", "Board member"
        CHAIR = "chair", "Chair of the board"
        OPERATOR = "operator", "Operator"
        AUDITOR = "auditor", "Auditor"
        SIGNATORY = "signatory", "Signatory of the consortium"

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="consortium_roles")
    role = models.CharField(max_length=20, choices=Role)
    programme = models.ForeignKey(
        "programmes.Programme",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="consortium_roles",
        help_text="Empty: in every programme. Only seats of the board are limited to one.",
    )
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    term_ends_on = models.DateField(null=True, blank=True, help_text="The last day of a term; the seat ends after it.")

    objects = ConsortiumRoleQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "role", "programme"],
                condition=Q(ended_at__isnull=True),
                nulls_distinct=False,
                name="one_current_role_per_person",
            ),
            models.UniqueConstraint(
                fields=["role", "programme"],
                condition=Q(ended_at__isnull=True, role="chair"),
                nulls_distinct=False,
                name="one_current_chair",
            ),
            models.CheckConstraint(
                condition=Q(programme__isnull=True) | Q(role__in=["board_member", "chair"]),
                name="only_seats_are_of_one_programme",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["board_member", "chair", "operator", "auditor", "signatory"]),
                name="consortium_role_known",
            ),
        ]

    def __str__(self) -> str:
        limit = f", {self.programme}" if self.programme_id else ""
        return f"{self.user}: {self.get_role_display()}{limit}"

    @property
    def audit_name(self) -> str:
        return f"{reference(self.user)} as {self.get_role_display().lower()}"


class ApiToken(models.Model):
    """A personal token of a program. Its SHA-256 is kept, and its first letters, by which a person knows it again."""

    class Scope(models.TextChoices):
        READ = "read", "Read only"
        CONTRIBUTE = "contribute", "Read, contribute and download"
        MANAGE = "manage", "Everything that a program may do"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    scope = models.CharField(max_length=12, choices=Scope, default=Scope.MANAGE)
    prefix = models.CharField(max_length=8, blank=True, help_text="How the token begins.")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(scope__in=["read", "contribute", "manage"]), name="token_scope_known")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    @property
    def audit_name(self) -> str:
        return f"API token {self.prefix} of {reference(self.user)}"


def new_user_code() -> str:
    """Return eight letters without vowels or look-alikes, in two groups (RFC 8628, section 6.1)."""
    letters = "BCDFGHJKLMNPQRSTVWXZ"
    code = "".join(secrets.choice(letters) for _ in range(8))
    return f"{code[:4]}-{code[4:]}"


class DeviceLogin(models.Model):
    """A kit waiting for its person to say yes in the browser (RFC 8628)."""

    user_code = models.CharField(max_length=9, unique=True, default=new_user_code)
    digest = models.CharField(max_length=64, unique=True)
    client_name = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    approved_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE)
    denied_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in of {self.client_name}"  # not the code: who knows it can be let in

    @property
    def audit_name(self) -> str:
        return "a kit's sign-in"  # a kit is often called after a person's machine


class SiteTerms(models.Model):
    """One immutable version of the terms of the site and its code of conduct. A trigger refuses UPDATE and DELETE."""

    version = models.PositiveIntegerField(unique=True)
    text = models.TextField(help_text="Markdown; exactly what is accepted.")
    sha256 = models.CharField(max_length=64, help_text="Of the text's UTF-8 bytes.")
    change_note = models.TextField(help_text="What is new, in a sentence.")
    published_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-version"]
        verbose_name_plural = "site terms"
        constraints = [models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="terms_sha256")]

    def __str__(self) -> str:
        return f"Terms of the site, version {self.version}"

    def get_absolute_url(self) -> str:
        return reverse("terms_version", args=[self.version])


class TermsAcceptance(models.Model):
    """Who accepted which version of the terms, and when. Append-only by trigger."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="terms_acceptances")
    terms = models.ForeignKey(SiteTerms, on_delete=models.PROTECT, related_name="acceptances")
    accepted_at = models.DateTimeField()

    class Meta:
        ordering = ["-accepted_at"]
        constraints = [models.UniqueConstraint(fields=["user", "terms"], name="terms_accepted_once")]

    def __str__(self) -> str:
        return f"{self.terms} accepted by {self.user}"

    @property
    def audit_name(self) -> str:
        return str(self.terms)


class EmailCode(models.Model):
    """
    The six digits beside a confirmation link, for the browser that asked for it. Only their HMAC is kept.

    Without an address it is a decoy: a stranger who signs up with somebody's address sees nothing different.
    """

    ATTEMPTS = 5

    email_address = models.ForeignKey("account.EmailAddress", null=True, blank=True, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(attempts__lte=5), name="email_code_five_attempts"),
            models.CheckConstraint(
                condition=Q(used_at__isnull=True) | Q(email_address__isnull=False),
                name="email_code_decoy_is_never_used",
            ),
        ]

    def __str__(self) -> str:
        return f"e-mail code {self.pk}"
