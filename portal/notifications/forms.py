"""Forms about notifications."""

from typing import Any

from django import forms

from portal.notifications.lifecycle import State
from portal.notifications.models import OutboxMessage
from portal.notifications.types import BECAUSE, MANDATORY, Delivery, Type

_WITHOUT_OFF = [choice for choice in Delivery.choices if choice[0] != Delivery.OFF]


class PreferencesForm(forms.Form):
    """One choice per kind; what binds or protects somebody cannot be switched off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for type in Type:
            self.fields[type.value] = forms.ChoiceField(
                label=type.label,
                help_text=BECAUSE.get(type, ""),
                choices=_WITHOUT_OFF if type in MANDATORY else Delivery.choices,
                widget=forms.RadioSelect,
            )


class WebhookForm(forms.Form):
    url = forms.URLField(
        max_length=500,
        label="Address of your endpoint",
        help_text="It begins with https:// and is reachable from the internet.",
        assume_scheme="https",
    )


class InboxFilter(forms.Form):
    type = forms.ChoiceField(choices=[("", "All kinds"), *Type.choices], required=False, label="Kind")


class OutboxFilter(forms.Form):
    state = forms.ChoiceField(choices=[("", "All that did not arrive yet"), *State.choices], required=False)
    channel = forms.ChoiceField(choices=[("", "Mail and webhooks"), *OutboxMessage.Channel.choices], required=False)
