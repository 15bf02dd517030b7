from django.apps import AppConfig
from django.core import checks


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal import processing  # noqa: PLC0415 -- models load after the apps

        checks.register(processing.every_personal_field_is_on_record, checks.Tags.models)
