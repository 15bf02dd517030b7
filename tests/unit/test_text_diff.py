"""Text against text: nothing is lost, and what did not change is folded."""

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.agreements import diff
from portal.agreements.diff import ADDED, CHANGED, KEPT, REMOVED, Block, Piece, compare, folded

OLD = "# Agreement\n\n## 1. One\n\nThe term is 60 days.\n\nKept.\n\n## 2. Two\n\nGone for good.\n"
NEW = "# Agreement\n\n## 1. One\n\nThe term is 30 days.\n\nKept.\n\n## 2. Two\n\n## 3. Three\n\nQuite new words here.\n"

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
texts = st.lists(st.text(alphabet="ab \n#.", max_size=12), max_size=8).map("\n\n".join)


def rebuilt(blocks: list[Block], *kinds: str) -> list[str]:
    paragraphs = ["".join(piece.text for piece in block.pieces if piece.kind in kinds) for block in blocks]
    return [text for text, block in zip(paragraphs, blocks, strict=True) if block.kind in (*kinds, CHANGED)]


def paragraphs(text: str) -> list[str]:
    return re.split(r"\n{2,}", text.strip("\n"))


def test_a_changed_word_is_marked_within_its_paragraph():
    (changed,) = [block for block in compare(OLD, NEW) if block.kind == CHANGED]
    assert changed.pieces == (
        Piece(KEPT, "The term is "),
        Piece(REMOVED, "60"),
        Piece(ADDED, "30"),
        Piece(KEPT, " days."),
    )


def test_paragraphs_that_have_nothing_in_common_are_removed_and_added():
    blocks = compare(OLD, NEW)
    assert [(block.kind, block.pieces[0].text) for block in blocks if block.kind in (ADDED, REMOVED)] == [
        (REMOVED, "Gone for good."),
        (ADDED, "## 3. Three"),
        (ADDED, "Quite new words here."),
    ]
    assert diff.counts(blocks) == {"added": 2, "removed": 1, "changed": 1}


def test_equal_texts_have_no_change():
    assert [block.kind for block in compare(OLD, OLD)] == [KEPT] * 6
    (only,) = folded(compare(OLD, OLD))
    assert only.is_folded


def test_what_is_away_from_a_change_is_folded():
    old = "\n\n".join("abcdefghij")
    stretches = folded(compare(old, old.replace("e", "E")))
    assert [(len(stretch.blocks), stretch.is_folded) for stretch in stretches] == [(3, True), (4, False), (4, True)]


def test_a_heading_is_known():
    assert [block.is_heading for block in compare(OLD, OLD)] == [True, True, False, False, True, False]


@patient
@given(texts, texts)
def test_both_texts_can_be_rebuilt_from_the_comparison(old, new):
    blocks = compare(old, new)
    assert rebuilt(blocks, KEPT, REMOVED) == paragraphs(old)
    assert rebuilt(blocks, KEPT, ADDED) == paragraphs(new)
    assert [block for stretch in folded(blocks) for block in stretch.blocks] == blocks
