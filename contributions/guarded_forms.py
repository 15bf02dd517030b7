"""A form of a draft that does not overwrite unawares what another window, or somebody else, saved meanwhile."""

import hashlib
import json
from typing import Any

from django import forms

MEANWHILE = (
    "saved in another window, or by somebody else, since you opened this page. Nothing is lost: what you see here is "
    "not saved yet, and saving it again replaces what was saved there."
)


class GuardedForm(forms.Form):
    """
    `seen` is what stood when the page was shown; where something else stands by now, the form `is_stale`.

    It says so once: what is sent again from its own page is meant.
    """

    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, standing: Any, initial: dict[str, Any], **kwargs: Any) -> None:
        mark = _mark(standing)
        self.is_stale = data is not None and data.get("seen", mark) != mark
        if self.is_stale:
            data = {**data.dict(), "seen": mark}
        super().__init__(data, initial={**initial, "seen": mark}, **kwargs)


def _mark(standing: Any) -> str:
    return hashlib.sha256(json.dumps(standing, sort_keys=True, default=str).encode()).hexdigest()[:16]
