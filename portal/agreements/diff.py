"""Text against text, for people: by paragraph, and within a changed paragraph by word."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

KEPT, ADDED, REMOVED, CHANGED = "kept", "added", "removed", "changed"
CONTEXT = 1  # unchanged paragraphs shown on each side of a change; the rest is folded
ALIKE = 0.4  # below this share of common words two paragraphs are shown as removed and added
WORDS = re.compile(r"\s+|\w+|[^\w\s]")
PARAGRAPHS = re.compile(r"\n{2,}")
HEADING = re.compile(r"^#{1,6} ")
LINES = re.compile(r"^(?:[-|>]|\d+\. )")  # a list, a table, a quotation: its lines stay lines
MARKS = re.compile(r"\*+|^#{1,6} ")


@dataclass(frozen=True)
class Piece:
    """Some words of a paragraph: kept, added or removed."""

    kind: str
    text: str

    @property
    def words(self) -> str:
        """The text without the marks of headings and emphasis."""
        return MARKS.sub("", self.text)


@dataclass(frozen=True)
class Block:
    """A paragraph: kept, added, removed or changed word by word."""

    kind: str
    pieces: tuple[Piece, ...]

    @property
    def is_heading(self) -> bool:
        return bool(HEADING.match(self.pieces[0].text))

    @property
    def has_lines(self) -> bool:
        return bool(LINES.match(self.pieces[0].text))


@dataclass(frozen=True)
class Stretch:
    """Neighbouring blocks; unchanged ones away from any change are folded."""

    blocks: tuple[Block, ...]
    is_folded: bool


def compare(old: str, new: str) -> list[Block]:
    """Return the paragraphs of both texts in order: kept and added ones make up `new`, kept and removed ones `old`."""
    before, after = PARAGRAPHS.split(old.strip("\n")), PARAGRAPHS.split(new.strip("\n"))
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    blocks: list[Block] = []
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        blocks.extend(_blocks(before[i:i_end], after[j:j_end]))
    return blocks


def _blocks(before: list[str], after: list[str]) -> Iterator[Block]:
    """Yield the blocks of one stretch; paragraphs are paired from the top, as long as both sides have one."""
    if before == after:
        yield from (Block(KEPT, (Piece(KEPT, text),)) for text in before)
        return
    while before and after:
        pair = _nearest(before[0], after)
        if pair is None:
            yield _whole(REMOVED, before.pop(0))
            continue
        yield from (_whole(ADDED, text) for text in after[:pair])
        yield Block(CHANGED, _words(before.pop(0), after[pair]))
        after = after[pair + 1 :]
    yield from (_whole(REMOVED, text) for text in before)
    yield from (_whole(ADDED, text) for text in after)


def _whole(kind: str, text: str) -> Block:
    return Block(kind, (Piece(kind, text),))


def _nearest(text: str, others: list[str]) -> int | None:
    """Return which of the next paragraphs is most like this one, or None if none is like it."""
    words = text.split()
    ratios = [SequenceMatcher(None, words, other.split(), autojunk=False).ratio() for other in others[:8]]
    best = max(range(len(ratios)), key=ratios.__getitem__)
    return best if ratios[best] >= ALIKE else None


def _words(before: str, after: str) -> tuple[Piece, ...]:
    """Return the words of two paragraphs, removed ones before the added ones that replace them."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    pieces: list[Piece] = []
    for operation, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if operation == "equal":
            pieces.append(Piece(KEPT, "".join(old[i:i_end])))
            continue
        removed, added = "".join(old[i:i_end]), "".join(new[j:j_end])
        pieces.extend(Piece(kind, text) for kind, text in ((REMOVED, removed), (ADDED, added)) if text)
    return tuple(pieces)


def folded(blocks: list[Block]) -> list[Stretch]:
    """Return the blocks in stretches; of the unchanged ones only the neighbours of a change stay open."""
    changes = [number for number, block in enumerate(blocks) if block.kind != KEPT]
    near = {number + step for number in changes for step in range(-CONTEXT, CONTEXT + 1)}
    stretches: list[Stretch] = []
    for number, block in enumerate(blocks):
        is_folded = number not in near
        if stretches and stretches[-1].is_folded == is_folded:
            stretches[-1] = Stretch((*stretches[-1].blocks, block), is_folded)
        else:
            stretches.append(Stretch((block,), is_folded))
    return stretches


def counts(blocks: list[Block]) -> dict[str, int]:
    """Return how many paragraphs were added, removed and changed."""
    return {kind: sum(block.kind == kind for block in blocks) for kind in (ADDED, REMOVED, CHANGED)}
