"""Asking for more room, and answering."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from contributions.room import GIB, MOST_BYTES, Room


class AskForm(forms.Form):
    """How much, and for what."""

    size = forms.IntegerField(min_value=1, max_value=MOST_BYTES // GIB, label=gettext_lazy("Room in all, in GiB"))
    reason = forms.CharField(
        max_length=2000,
        label=gettext_lazy("What is it for?"),
        help_text=gettext_lazy(
            "What you will send, and about when. An operator decides by it, and it stays on record."
        ),
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def __init__(self, *args: Any, room: Room, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = f"{room.quota_bytes / GIB:,.6g}"
        self.fields["size"].help_text = _("The whole room, not the difference: now it is %(now)s GiB.") % {"now": now}


class AnswerForm(forms.Form):
    """How much, or no and why; the button that is pressed says which."""

    GRANT, DECLINE = "grant", "decline"

    answer = forms.ChoiceField(choices=[(GRANT, GRANT), (DECLINE, DECLINE)])
    size = forms.IntegerField(
        min_value=1,
        max_value=MOST_BYTES // GIB,
        label=gettext_lazy("Room in all, in GiB"),
        help_text=gettext_lazy("As much as is asked for, or another size above what there is now."),
    )
    reply = forms.CharField(
        max_length=2000,
        required=False,
        label=gettext_lazy("Reply"),
        help_text=gettext_lazy("The institution reads it, and it stays on record. To decline, say why."),
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("answer") == self.DECLINE:
            self.errors.pop("size", None)  # nothing is granted
        return given
