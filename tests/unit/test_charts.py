"""Charts and the map: what is drawn follows from the figures, and nothing needs inline style."""

from types import SimpleNamespace

import pytest

from portal import charts, maps


def test_bar_is_drawn_in_proportion() -> None:
    assert charts.bar(25, 200) == (
        '<svg class="bar-mark" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="c-track" width="100" height="10"/><rect class="c-bar" width="12.5" height="10"/></svg>'
    )


def test_bar_of_nothing_has_no_width() -> None:
    assert '<rect class="c-bar" width="0" height="10"/>' in charts.bar(0, 0)


def test_bars_escape_their_labels() -> None:
    drawn = charts.bars([charts.Bar("<b>", 3)], "A & B")
    assert '<th scope="row">&lt;b&gt;</th>' in drawn
    assert "<caption>A &amp; B</caption>" in drawn


def test_interval_keeps_marks_inside_the_axis() -> None:
    drawn = charts.interval(0.1, 0.05, 0.75, start=0.5)
    assert '<path class="c-interval" d="M0 5H50"/>' in drawn
    assert '<path class="c-point" d="M0 5h0.01"/>' in drawn


def test_forest_marks_the_weakest_shown_group_and_hides_suppressed_figures() -> None:
    cells = [
        {"value": "A", "n": 50, "auroc": 0.9, "low": 0.8, "high": 0.95, "suppressed": False},
        {"value": "B", "n": 40, "auroc": 0.7, "low": 0.6, "high": 0.8, "suppressed": False},
        {"value": "C", "n": 6, "auroc": 0.2, "low": 0.1, "high": 0.3, "suppressed": True},
        {"value": "not stated", "n": 60, "auroc": 0.5, "low": 0.4, "high": 0.6, "suppressed": False},
    ]
    rows = charts.forest(cells).split("<tr ")[1:]
    assert [row.startswith('class="weakest"') for row in rows] == [False, True, False, False]
    assert "too few to show" in rows[2]
    assert "0.2" not in rows[2]


def test_roc_runs_from_corner_to_corner() -> None:
    drawn = charts.roc([[0, 0], [0, 1], [1, 1]], "ROC of a perfect encoder")
    assert 'd="M44.0 308.0L44.0 8.0L344.0 8.0"' in drawn
    assert 'aria-label="ROC of a perfect encoder"' in drawn


def test_tally_bar_shows_every_vote_and_the_quorum() -> None:
    tally = SimpleNamespace(votes_for=2, votes_against=1, abstentions=0, waiting=1, eligible=4, quorum=3)
    drawn = charts.tally_bar(tally)
    assert [f'class="t-{name}"' in drawn for name in ("for", "against", "abstain", "waiting")] == [True] * 4
    assert '<rect class="t-for" x="0" width="50" height="10"/>' in drawn
    assert '<path class="t-quorum" d="M75 0V10"/>' in drawn
    assert "quorum 3 of 4" in drawn


@pytest.mark.parametrize(("count", "band"), [(0, 0), (1, 1), (2, 1), (3, 2), (5, 2), (6, 3), (400, 3)])
def test_band_of_a_count(count: int, band: int) -> None:
    assert maps.band(count) == band


def test_map_draws_every_inhabited_subregion() -> None:
    drawn = maps.world_map({"030": 7, "061": 1})
    assert drawn.count('class="band-0"') - 1 == 20  # the key has one of each band
    assert drawn.count('class="band-1"') - 1 == 1
    assert drawn.count('class="band-3"') - 1 == 1
    assert "<title>Eastern Asia: 7 institutions</title>" in drawn
    assert "2 of 22 sub-regions" in drawn


def test_every_subregion_has_an_outline_within_the_drawing() -> None:
    world = maps.geometry()
    empty = [code for code, region in world["regions"].items() if not region["path"]]
    assert empty == [maps.ANTARCTICA]
