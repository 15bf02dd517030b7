from django.apps import AppConfig


class InstitutionsConfig(AppConfig):
    name = "portal.institutions"
    label = "institutions"

    def ready(self) -> None:
        from portal.accounts import erasure  # noqa: PLC0415 -- models load after the apps
        from portal.institutions import memberships  # noqa: PLC0415 -- models load after the apps

        erasure.PARTS.append(erasure.Part(memberships.erasure_holds, memberships.erase_person))
