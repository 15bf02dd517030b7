from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal import processing  # noqa: F401, PLC0415 -- its check is registered by loading it, after the models
