"""Answers of the profile's lists that a specialty brings; options.py has the rules."""

from django.db import models
from django.db.models import Q

from portal.institutions.vocabulary import COMMON_OPTIONS, OptionList


class ProfileOption(models.Model):
    """An answer that the profile offers. Institutions keep its code, so that only its name may change."""

    field = models.CharField(max_length=20, choices=OptionList)
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=80)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["field", "code"], name="profile_option_once"),
            models.CheckConstraint(condition=Q(field__in=OptionList.values), name="profile_option_field_known"),
            models.CheckConstraint(
                condition=Q(code__regex=r"^[a-z0-9_]+$")
                & ~Q(code__in=sorted({code for options in COMMON_OPTIONS.values() for code, _ in options})),
                name="profile_option_code_own",
            ),
        ]

    def __str__(self) -> str:
        return self.name
