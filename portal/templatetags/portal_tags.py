"""Tags and filters of the pages: states, times, sizes, hashes, charts."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from django import template
from django.template import Context
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from portal import charts, maps
from portal.accounts import devices, orcid
from portal.audit import people
from portal.audit import services as audit
from portal.markdown import to_html

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86400
LOG_READERS = {"auditor", "operator", "chair"}
NARROW_SPACE = "\u202f"  # groups of thousands, as in ISO 80000-1, section 7.3.1

# The tone of a state: its colour, and its shape, because colour alone tells nothing to one reader in twelve.
TONES: dict[str, str] = {
    **dict.fromkeys(["draft", "unsigned", "abstain", "no_labelled_data", "too_few_labelled", "not_started"], "idle"),
    **dict.fromkeys(["submitted", "queued", "pending", "uploaded", "invited", "asked", "requested"], "waiting"),
    **dict.fromkeys(["applied", "validating", "review", "open", "proposed", "uploading"], "active"),
    **dict.fromkeys(["reviewing", "reported"], "active"),
    **dict.fromkeys(["leased", "running", "finalising"], "active"),
    **dict.fromkeys(["member", "approved", "carried", "released", "succeeded", "pass", "verified", "done"], "good"),
    **dict.fromkeys(["met", "approve", "approves", "permitted", "granted"], "good"),
    **dict.fromkeys(["active", "signed", "accepted", "frozen", "sent", "for"], "good"),
    **dict.fromkeys(["warn", "expiring", "returned", "tied", "conditions", "return", "reconsent_due", "grace"], "warn"),
    "undecided": "warn",
    **dict.fromkeys(["declined", "rejected", "refused", "lost", "fail", "against", "failed", "reject"], "bad"),
    **dict.fromkeys(["failed_input", "failed_platform", "timed_out", "no_quorum", "excluded", "objects"], "bad"),
    **dict.fromkeys(
        ["withdrawn", "lapsed", "merged", "retracted", "cancelled", "expired", "revoked", "ended", "waived"], "ended"
    ),
    "deleted": "ended",
}
RING = '<circle cx="8" cy="8" r="6.25" fill="none" stroke="currentColor" stroke-width="1.75"/>'
SHAPES: dict[str, str] = {
    "idle": RING,
    "waiting": RING + '<path d="M8 8V1.75A6.25 6.25 0 0 1 14.25 8z" fill="currentColor"/>',
    "active": RING + '<path d="M8 1.75a6.25 6.25 0 0 1 0 12.5z" fill="currentColor"/>',
    "good": '<path fill="currentColor" fill-rule="evenodd" d="M8 .9a7.1 7.1 0 1 1 0 14.2A7.1 7.1 0 0 1 8 .9zM12.3 '
    '5.9l-1.2-1.2-4.2 4.3-2-2-1.2 1.2 3.2 3.2z"/>',
    "warn": '<path fill="currentColor" fill-rule="evenodd" d="M8 .8l7.6 13.7H.4zM7.1 5.6v4.4h1.8V5.6zM7.1 '
    '11.1v1.7h1.8v-1.7z"/>',
    "bad": '<path fill="currentColor" fill-rule="evenodd" d="M1.2 1.2h13.6v13.6H1.2zM4.3 5.5L6.8 8l-2.5 2.5 1.2 '
    '1.2L8 9.2l2.5 2.5 1.2-1.2L9.2 8l2.5-2.5-1.2-1.2L8 6.8 5.5 4.3z"/>',
    "ended": RING + '<path d="M5 8h6" stroke="currentColor" stroke-width="1.75"/>',
    "note": '<path fill="currentColor" fill-rule="evenodd" d="M8 .9a7.1 7.1 0 1 1 0 14.2A7.1 7.1 0 0 1 8 .9zM7.1 '
    '7v5h1.8V7zM7.1 4.1v1.8h1.8V4.1z"/>',
}


@register.simple_tag
def glyph(value: str) -> SafeString:
    """Draw the shape of a state ("approved") or of a tone ("good"); hidden from screen readers: write the word too."""
    tone = value if value in SHAPES else TONES.get(value, "idle")
    return mark_safe(f'<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true">{SHAPES[tone]}</svg>')


@register.simple_tag
def status_word(value: str, label: str = "") -> SafeString:
    """Write a state as shape, colour and word: `{% status_word "pass" "Passed" %}`."""
    tone = value if value in SHAPES else TONES.get(value, "idle")
    word = label or str(getattr(value, "label", str(value).replace("_", " ").capitalize()))
    return format_html('<span class="status status--{}">{}{}</span>', tone, glyph(tone), word)


@register.simple_tag
def status(subject: Any) -> SafeString:
    """Write the state of an object that has `status` and `get_status_display()`."""
    return status_word(subject.status, subject.get_status_display())


@register.filter
def tone(value: str) -> str:
    """Return idle, waiting, active, good, warn, bad or ended for a state."""
    return TONES.get(str(value), "idle")


@register.simple_tag(takes_context=True)
def nav(context: Context, name: str, label: str, button: str = "", count: int = 0) -> SafeString:
    """Write a link of the navigation; the page one is on is marked. Nothing if no such address exists."""
    try:
        url = reverse(name)
    except NoReverseMatch:
        return SafeString("")
    path = getattr(context.get("request"), "path", "")
    here = path == url or (url != "/" and path.startswith(url))
    current = mark_safe(' aria-current="page"') if here else ""
    classes = mark_safe(' class="button small-button"') if button else ""
    return format_html('<li><a href="{}"{}{}>{}{}</a></li>', url, current, classes, label, unread(count))


@register.simple_tag
def unread(count: int | str) -> SafeString:
    """Write how many entries are unread, or nothing."""
    if not count:
        return SafeString("")
    text = str(count) if int(count) < 100 else "99+"
    return format_html('<span class="count">{}<span class="vh"> {}</span></span>', text, gettext("unread"))


@register.filter
def when(value: datetime | date | None) -> SafeString:
    """Write a time in UTC; page.js adds the reader's own zone as a tip. A date is written as a date."""
    if value is None:
        return SafeString("")
    if not isinstance(value, datetime):
        return day(value)
    at = value.astimezone(UTC)
    text = f"{at.day} {at:%b %Y, %H:%M} UTC"
    return format_html(
        '<time class="nowrap" datetime="{}" data-local>{}</time>', at.isoformat(timespec="seconds"), text
    )


@register.filter
def day(value: datetime | date | None) -> SafeString:
    """Write a date: 24 Nov 2026."""
    if value is None:
        return SafeString("")
    text = f"{value.day} {value:%b %Y}"
    return format_html('<time class="nowrap" datetime="{}">{}</time>', f"{value:%Y-%m-%d}", text)


@register.filter
def number(value: float | str | None) -> str:
    """Group the thousands of a whole number by narrow spaces: 12 345."""
    return "–" if value in (None, "") else f"{int(value):,}".replace(",", NARROW_SPACE)


@register.filter("bytes")
def binary_size(value: int | None) -> str:
    """Write a size in binary units: 5.3 MiB."""
    if value is None:
        return "–"
    size = float(value)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f}\u00a0{unit}" if unit == "bytes" or size >= 100 else f"{size:.1f}\u00a0{unit}"
        size /= 1024
    return f"{size:.1f}\u00a0TiB"


@register.filter
def gib(value: int) -> str:
    """Write a size as it is asked for, which no rounding to a larger unit changes: 1 536 GiB."""
    return f"{value / 2**30:,.6g}\u00a0GiB".replace(",", NARROW_SPACE)


@register.filter
def duration(seconds: float | None) -> str:
    """Write seconds the way one says them: 0.31 s, 12 s, 3 min 4 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2f}\u00a0s" if seconds < 1 else f"{seconds:.1f}\u00a0s"
    whole = round(seconds)
    for unit, name, small, small_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}\u00a0{name} {whole % unit // small}\u00a0{small_name}"
    return f"{whole}\u00a0s"


@register.filter
def auroc(value: float | None) -> str:
    """Write an AUROC with three decimals."""
    return "–" if value is None else f"{value:.3f}"


@register.filter
def sentence(event: Any) -> str:
    """Write an event of the audit log as a sentence, or an event of a run as its state."""
    if hasattr(event, "sentence"):  # worded for its readers already
        return event.sentence
    if hasattr(event, "verb"):
        return audit.sentence(event)
    return event.get_status_display()


@register.simple_tag(takes_context=True)
def log_link(context: Context, subject: Any) -> SafeString:
    """Write a link to everything in the audit log about an object, for those who read the log."""
    if LOG_READERS.isdisjoint(context.get("user_roles") or ()):
        return SafeString("")
    url = reverse("audit:timeline", args=[subject._meta.model_name, subject.pk])
    return format_html('<p class="small"><a href="{}">{}</a></p>', url, gettext("All of it in the audit log"))


@register.filter
def named(text: str) -> str:
    """Write a text with the people it refers to by their names of today."""
    return people.named(text)


@register.filter
def device(user_agent: str) -> str:
    """Write a browser's own description of itself the way a person would: "Firefox on Windows"."""
    return devices.described(user_agent)


@register.filter("orcid")
def orcid_link(value: str) -> SafeString:
    """Write a proved ORCID iD as ORCID wants it shown: the whole address, as a link."""
    url = orcid.url_of(value)
    return format_html('<a class="nowrap" href="{}" rel="noopener">{}</a>', url, url.removeprefix("https://"))


@register.filter
def pairs(value: Any) -> list[tuple[str, Any]]:
    """Turn a mapping (evidence, facts) into (label, value) pairs for a list of facts."""
    items = value.items() if isinstance(value, Mapping) else []
    return [(str(key).replace("_", " ").capitalize(), _plain(item)) for key, item in items]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(_plain(item)) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else value


@register.inclusion_tag("_sha.html")
def sha(value: str, label: str = "SHA-256") -> dict[str, str]:
    """Write a digest in monospace with a copy button."""
    return {"value": value, "label": label}


@register.inclusion_tag("_command.html")
def command(text: str) -> dict[str, str]:
    """Write a shell command with a copy button."""
    return {"text": text}


@register.filter
def markdown(text: str) -> SafeString:
    """Turn CommonMark with tables into HTML; raw HTML is shown as text and the result is sanitised."""
    return to_html(text)


register.simple_tag(charts.bar, name="bar")
register.simple_tag(charts.bars, name="bars")
register.simple_tag(charts.interval, name="interval")
register.simple_tag(charts.forest, name="forest")
register.simple_tag(charts.roc, name="roc")
register.simple_tag(charts.tally_bar, name="tally_bar")
register.simple_tag(maps.world_map, name="world_map")
