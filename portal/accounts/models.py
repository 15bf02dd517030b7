"""People: accounts, their consortium roles, their API tokens."""

import secrets
from typing import ClassVar

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone


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

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    def __str__(self) -> str:
        return self.name or self.email

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
                condition=Q(role__in=["board_member", "chair", "operator", "auditor"]), name="consortium_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.get_role_display()}"


class ApiToken(models.Model):
    """A personal token of the kit. Only its SHA-256 is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"


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
