"""The answers of the profile's lists: those of every specialty, and those that a programme's folder brings."""

from django.db import transaction

from portal.institutions.option_models import ProfileOption
from portal.institutions.vocabulary import COMMON_OPTIONS


def choices(name: str) -> list[tuple[str, str]]:
    """Return code and name of every answer of a list of the profile, those of specialties first."""
    own = ProfileOption.objects.filter(field=name).values_list("code", "name")
    return [*own, *COMMON_OPTIONS[name]]


@transaction.atomic
def offer(name: str, wanted: dict[str, str]) -> list[str]:
    """Let a list of the profile offer these names by code; return the names that are new or were another."""
    known = dict(ProfileOption.objects.select_for_update().filter(field=name).values_list("code", "name"))
    changed = {code: said for code, said in wanted.items() if known.get(code) != said}
    for code, said in changed.items():
        ProfileOption.objects.update_or_create(field=name, code=code, defaults={"name": said})
    return list(changed.values())
