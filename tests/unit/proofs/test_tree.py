"""The Merkle tree: every size, every index, and what tells lists apart."""

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proofs import repeatable
from zkp.proofs import tree
from zkp.proofs.poseidon import poseidon
from zkp.proofs.tree import DEPTH, EMPTY, MerkleTree, root_of, tree_of


@pytest.fixture(autouse=True)
def _each_hash_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of many sizes share most of their nodes: hash each of them once."""
    monkeypatch.setattr(tree, "poseidon", remembered)


remembered = cache(poseidon)


def defined_root(leaves: Sequence[int], height: int = DEPTH) -> int:
    """The root by definition: a perfect tree whose places after the list are EMPTY."""
    if height == 0:
        return leaves[0] if leaves else EMPTY
    if not leaves:
        child = defined_root((), height - 1)
        return remembered(child, child)
    half = 2 ** (height - 1)
    return remembered(defined_root(leaves[:half], height - 1), defined_root(leaves[half:], height - 1))


@pytest.mark.parametrize("size", range(1, 71))
def test_every_path_leads_to_the_root(size: int) -> None:
    """At every size from 1 to 70, the path of each leaf recomputes the root."""
    leaves = [1000 + position for position in range(size)]
    merkle = MerkleTree(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle.path(index)
        assert len(path) == DEPTH
        assert root_of(leaf, index, path) == merkle.root


@pytest.mark.parametrize("index", [0, 4, 6])
def test_a_path_is_of_one_leaf_at_one_place(index: int) -> None:
    """Another leaf, another index or another sibling leads to another root."""
    merkle = MerkleTree(range(100, 107))
    path = merkle.path(index)
    assert root_of(100 + index, index ^ 1, path) != merkle.root
    assert root_of(100 + index, index ^ 2**19, path) != merkle.root
    assert root_of(101 + index, index, path) != merkle.root
    assert root_of(100 + index, index, (*path[:-1], path[-1] + 1)) != merkle.root


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 33, 64, 70])
def test_root_is_the_defined_one(size: int) -> None:
    """The root equals that of the perfect tree of depth 20, built by its definition."""
    leaves = [7 * position for position in range(size)]
    assert MerkleTree(leaves).root == defined_root(leaves)


def test_empty_places_lead_to_the_root_too() -> None:
    """An empty place has a valid path with EMPTY as the leaf: why the circuit refuses that leaf."""
    merkle = MerkleTree([11, 22, 33])
    assert root_of(EMPTY, 3, (33, *merkle.path(2)[1:])) == merkle.root


@repeatable
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_only_equal_lists_have_equal_roots(first: list[int], second: list[int]) -> None:
    """A root commits to the list: its entries, their order and their number, repeated last ones included."""
    assert (MerkleTree(first).root == MerkleTree(second).root) == (first == second)


def test_a_list_is_hashed_once() -> None:
    """Proofs over one list share its tree."""
    assert tree_of((5, 6, 7)) is tree_of((5, 6, 7))
