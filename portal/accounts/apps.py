from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "portal.accounts"
    label = "accounts"

    def ready(self) -> None:
        from allauth.account import signals as account  # noqa: PLC0415 -- models load after the apps
        from allauth.mfa import signals as mfa  # noqa: PLC0415 -- models load after the apps
        from allauth.socialaccount import signals as social  # noqa: PLC0415 -- models load after the apps

        from portal.accounts import orcid, traces  # noqa: PLC0415 -- models load after the apps

        social.social_account_added.connect(orcid.on_connected)
        social.social_account_removed.connect(orcid.on_disconnected)
        account.user_signed_up.connect(traces.on_signed_up)
        account.user_logged_in.connect(traces.on_signed_in)
        account.email_added.connect(traces.on_address_added)
        account.email_confirmed.connect(traces.on_address_verified)
        account.email_changed.connect(traces.on_address_chosen)
        account.email_removed.connect(traces.on_address_removed)
        mfa.authenticator_added.connect(traces.on_factor_added)
        mfa.authenticator_reset.connect(traces.on_factor_added)
        mfa.authenticator_removed.connect(traces.on_factor_removed)
