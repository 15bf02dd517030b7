"""Tags and filters of the pages."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from portal.templatetags import portal_tags as tags


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (6815744, "6.5 MiB"), (2**40, "1.0 TiB"), (None, "–")],
)
def test_bytes(size: int | None, text: str) -> None:
    assert tags.binary_size(size).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.314, "0.31 s"), (2.44, "2.4 s"), (41.2, "41 s"), (184, "3 min 4 s"), (7564, "2 h 6 min"), (273600, "3 d 4 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert tags.duration(seconds).replace("\u00a0", " ") == text


def test_gib_keeps_the_unit_in_which_it_was_asked_for() -> None:
    assert [tags.gib(size) for size in (500 * 2**30, 1536 * 2**30, 2**29)] == [
        "500\u00a0GiB",
        "1\u202f536\u00a0GiB",
        "0.5\u00a0GiB",
    ]


def test_number_groups_thousands() -> None:
    assert tags.number(1284310) == "1\u202f284\u202f310"


def test_when_is_written_in_utc() -> None:
    at = datetime(2026, 11, 24, 2, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert tags.when(at) == (
        '<time class="nowrap" datetime="2026-11-23T21:00:00+00:00" data-local>23 Nov 2026, 21:00 UTC</time>'
    )
    assert tags.when(datetime(2026, 1, 2, tzinfo=UTC)).endswith("2 Jan 2026, 00:00 UTC</time>")
    assert tags.when(None) == ""


def test_status_is_shape_colour_and_word() -> None:
    drawn = tags.status_word("rejected", "Rejected <now>")
    assert drawn.startswith('<span class="status status--bad"><svg class="glyph"')
    assert drawn.endswith("Rejected &lt;now&gt;</span>")


def test_states_of_one_tone_share_a_shape_and_tones_differ() -> None:
    assert tags.glyph("approved") == tags.glyph("carried") == tags.glyph("good")
    shapes = {str(tags.glyph(tone)) for tone in ("idle", "waiting", "active", "good", "warn", "bad", "ended")}
    assert len(shapes) == 7


def test_every_state_of_every_lifecycle_has_a_tone() -> None:
    from contributions.lifecycle import Status as ContributionStatus
    from governance.board.lifecycle import Status as MotionStatus
    from governance.releases.lifecycle import Status as ReleaseStatus
    from jobs.lifecycle import Status as RunStatus
    from portal.institutions.lifecycle import Status as InstitutionStatus

    lives = (ContributionStatus, MotionStatus, ReleaseStatus, RunStatus, InstitutionStatus)
    assert [status for life in lives for status in life if status.value not in tags.TONES] == []


def test_markdown_shows_html_as_text_and_drops_script_addresses() -> None:
    html = tags.markdown("# Title\n\n<script>alert(1)</script> [x](javascript:alert) [y](https://example.org)")
    assert "<h1>Title</h1>" in html
    assert "<script" not in html
    assert "javascript:" not in html.split("href")[-1]
    assert '<a href="https://example.org"' in html


def test_pairs_make_evidence_readable() -> None:
    assert tags.pairs({"not_finite": 3, "moments": {"mean": 0.123456}, "names": ["a", "b"]}) == [
        ("Not finite", 3),
        ("Moments", "mean 0.1235"),
        ("Names", "a, b"),
    ]
