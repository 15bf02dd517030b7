"""
Merkle trees of RFC 6962 (SHA-256): roots of a stream of leaves, proofs of inclusion and of consistency.

Everything is checked against the proof vectors of transparency-dev/merkle and the examples of RFC 6962, section 2.1.3.
"""

import hashlib

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()  # RFC 6962, section 2.1: MTH({})


def leaf_hash(content: bytes) -> bytes:
    """Return the hash of a leaf. Source: RFC 6962, section 2.1."""
    return hashlib.sha256(b"\0" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node. Source: RFC 6962, section 2.1."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The root of the leaves so far, in O(log n) memory: of each level at most one node that waits for its sibling."""

    def __init__(self) -> None:
        self.size = 0
        self._waiting: list[bytes | None] = []  # by level, from the leaves

    def add(self, leaves: list[bytes]) -> None:
        """Append leaf hashes, in order; many at once are faster."""
        self.size += len(leaves)
        nodes, level, sha256 = leaves, 0, hashlib.sha256
        while nodes:
            if level == len(self._waiting):
                self._waiting.append(None)
            first = self._waiting[level]
            nodes = nodes if first is None else [first, *nodes]
            self._waiting[level] = nodes[-1] if len(nodes) % 2 else None
            pairs = iter(nodes)
            nodes = [sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
            level += 1

    def root(self) -> bytes:
        """Return MTH(D[size]). Source: RFC 6962, section 2.1."""
        result = None
        for left in self._waiting:
            if left is not None:
                result = left if result is None else node_hash(left, result)
        return EMPTY_ROOT if result is None else result


def includes(root: bytes, size: int, index: int, leaf: bytes, path: list[bytes]) -> bool:
    """
    Test if `path` proves that leaf number `index`, from 0, of the tree with this root and size has the hash `leaf`.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size or not _are_hashes(root, leaf, *path):
        return False
    place, last, result = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            result = node_hash(beside, result)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            result = node_hash(result, beside)
        place, last = place >> 1, last >> 1
    return last == 0 and result == root


def is_consistent(earlier: tuple[int, bytes], later: tuple[int, bytes], proof: list[bytes]) -> bool:
    """
    Test if `proof` shows that the earlier tree (size, root) is the beginning of the later one.

    Trees of one size need no proof and must have one root; of an empty tree nothing can be proved.
    Source: RFC 9162, section 2.1.4.2.
    """
    (size, root), (later_size, later_root) = earlier, later
    if not 0 < size <= later_size or not _are_hashes(*proof):
        return False
    if size == later_size or not proof:
        return size == later_size and not proof and root == later_root
    steps = proof if size & (size - 1) else [root, *proof]  # a power of two is a subtree of the later tree
    place, last = size - 1, later_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = steps[0]
    for beside in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        place, last = place >> 1, last >> 1
    return last == 0 and old == root and new == later_root


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
