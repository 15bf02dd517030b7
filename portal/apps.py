from django.apps import AppConfig
from django.core import checks

from portal import processing


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        checks.register(processing.every_personal_field_is_on_record, checks.Tags.models)
        checks.register(processing.every_place_is_a_country)
