"""The Merkle tree of a list: Poseidon, depth 20, for any list of 1 to 2^20 field elements.

Places after the list's end hold EMPTY, and a subtree of empty places is hashed once per process. The
circuit refuses EMPTY as a leaf, so that no empty place can be proved a member; every path has length 20,
so that no inner node can be passed off as a leaf.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

from zkp.proofs.poseidon import poseidon

DEPTH = 20
# The bytes "empty place" as a number: a value that no list holds by chance. Also written in
# circom/merkle_proof.circom.
EMPTY = int.from_bytes(b"empty place", "big")


@cache
def _empty_subtrees() -> tuple[int, ...]:
    """Roots of the subtrees of height 0 to DEPTH - 1 that hold no entry."""
    roots = [EMPTY]
    for _ in range(DEPTH - 1):
        roots.append(poseidon(roots[-1], roots[-1]))
    return tuple(roots)


class MerkleTree:
    """All inner nodes of one list's tree. About 0.15 ms an entry to make."""

    def __init__(self, leaves: Sequence[int]) -> None:
        """Hash `leaves`: 1 to 2^20 field elements, none of them EMPTY."""
        level = tuple(leaves)
        self._levels = []  # only nodes that have an entry below them
        for empty in _empty_subtrees():
            self._levels.append(level)
            padded = (*level, empty) if len(level) % 2 else level
            level = tuple(map(poseidon, padded[::2], padded[1::2]))
        self.root = level[0]

    def path(self, index: int) -> tuple[int, ...]:
        """The DEPTH siblings on the way from the leaf at `index` (0-based) to the root, lowest first."""
        siblings = []
        for level, empty in zip(self._levels, _empty_subtrees(), strict=True):
            sibling = index ^ 1
            siblings.append(level[sibling] if sibling < len(level) else empty)
            index >>= 1
        return tuple(siblings)


@lru_cache(maxsize=4)
def tree_of(leaves: tuple[int, ...]) -> MerkleTree:
    """The tree of `leaves`, from memory if it is among the last four: many proofs are made over one list."""
    return MerkleTree(leaves)


def root_of(leaf: int, index: int, siblings: Sequence[int]) -> int:
    """The root that a leaf at `index` and its siblings, lowest first, lead to."""
    node = leaf
    for sibling in siblings:
        node = poseidon(sibling, node) if index & 1 else poseidon(node, sibling)
        index >>= 1
    return node
