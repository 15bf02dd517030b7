from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "portal.accounts"
    label = "accounts"

    def ready(self) -> None:
        from allauth.socialaccount import signals  # noqa: PLC0415 -- models load after the apps

        from portal.accounts import orcid  # noqa: PLC0415 -- models load after the apps

        signals.social_account_added.connect(orcid.on_connected)
        signals.social_account_removed.connect(orcid.on_disconnected)
