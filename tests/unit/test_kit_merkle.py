"""Merkle trees against the published vectors, the examples of RFC 6962 and the definitions themselves."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.kit import merkle
from tests.rfc6962 import mth, path, subproof

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "merkle"
FILES = sorted(VECTORS.rglob("*.json"))
needs_vectors = pytest.mark.skipif(not FILES, reason="the vectors of ../shared/data/merkle are not here")


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@needs_vectors
def test_there_are_196_vectors():
    assert len(FILES) == 196


@needs_vectors
@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-3:]))
def test_vectors_are_accepted_and_refused_as_published(file):
    case = json.loads(file.read_text())
    proof = [decoded(text) for text in case["proof"] or []]
    if "leafIdx" in case:
        leaf = decoded(case["leafHash"])
        holds = merkle.includes(decoded(case["root"]), case["treeSize"], case["leafIdx"], leaf, proof)
    else:
        earlier, later = (case["size1"], decoded(case["root1"])), (case["size2"], decoded(case["root2"]))
        holds = merkle.is_consistent(earlier, later, proof)
    assert holds == (not case["wantErr"]), case["desc"]


def leaves_of(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % number) for number in range(count)]


def root_of(leaves: list[bytes]) -> bytes:
    tree = merkle.Tree()
    tree.add(leaves)
    return tree.root()


def test_the_empty_tree_and_the_empty_leaf_have_the_published_hashes():
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.Tree().root() == merkle.EMPTY_ROOT


def test_the_examples_of_rfc_6962():
    """Section 2.1.3: seven leaves, d0 to d6, built up from trees of 3, 4 and 6; its proofs, written as there."""
    a, b, c, d, e, f, j = leaves_of(7)
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k, last = merkle.node_hash(g, h), merkle.node_hash(i, j)
    root = merkle.node_hash(k, last)
    assert root_of([a, b, c, d, e, f, j]) == root
    for index, leaf, proof in ((0, a, [b, h, last]), (3, d, [c, g, last]), (4, e, [f, j, k]), (6, j, [i, k])):
        assert merkle.includes(root, 7, index, leaf, proof)
    hash0, hash1, hash2 = merkle.node_hash(g, c), k, merkle.node_hash(k, i)
    for earlier, proof in (((3, hash0), [c, d, g, last]), ((4, hash1), [last]), ((6, hash2), [i, j, k])):
        assert merkle.is_consistent(earlier, (7, root), proof)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_root_is_the_same_in_whatever_pieces_the_leaves_come(sizes):
    leaves, tree, begin = leaves_of(sum(sizes)), merkle.Tree(), 0
    for size in sizes:
        tree.add(leaves[begin : begin + size])
        begin += size
        assert (tree.size, tree.root()) == (begin, mth(leaves[:begin]))


@given(st.data(), st.integers(1, 130))
def test_a_path_proves_its_leaf_and_no_other(data, size):
    leaves = leaves_of(size)
    root, index = mth(leaves), data.draw(st.integers(0, size - 1))
    proof = path(index, leaves)
    assert merkle.includes(root, size, index, leaves[index], proof)
    other = data.draw(st.integers(0, size).filter(lambda number: number != index))
    assert not merkle.includes(root, size, other, leaves[index], proof)
    assert not merkle.includes(root, size, index, merkle.leaf_hash(b"other"), proof)
    assert not merkle.includes(root, size, index, leaves[index], [*proof, root])
    assert not proof or not merkle.includes(root, size, index, leaves[index], proof[1:])


@given(st.data(), st.integers(1, 130))
def test_a_proof_shows_that_a_tree_began_as_the_earlier_one(data, size):
    leaves = leaves_of(size)
    earlier = data.draw(st.integers(1, size))
    proof, before, after = subproof(earlier, leaves, True), mth(leaves[:earlier]), mth(leaves)
    assert merkle.is_consistent((earlier, before), (size, after), proof)
    false = merkle.leaf_hash(b"false")
    assert not merkle.is_consistent((earlier, false), (size, after), proof)
    assert not merkle.is_consistent((earlier, before), (size, false), proof)
    assert not merkle.is_consistent((earlier, before), (size, after), [*proof, false])
    assert not merkle.is_consistent((size + 1, before), (size, after), proof)
    for place in range(len(proof)):
        assert not merkle.is_consistent((earlier, before), (size, after), [*proof[:place], false, *proof[place + 1 :]])
