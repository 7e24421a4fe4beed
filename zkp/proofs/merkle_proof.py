"""`merkle_proof`: I know an entry of the list whose Merkle root is `root`, without saying which."""

from typing import Annotated, Self

from pydantic import FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from zkp.proofs.circuit import FIELD_ELEMENT, Circuit, Element
from zkp.proofs.errors import InputError, UnsatisfiedInputs
from zkp.proofs.numbers import Number, wrong
from zkp.proofs.request import Request
from zkp.proofs.signals import Signals
from zkp.proofs.tree import DEPTH, EMPTY, root_of, tree_of

MAX_LEAVES = 65_536  # a request's; the circuit itself allows 2^DEPTH
_EMPTY_ENTRY = "is the mark of an empty place; leave it out"


def leaf(name: str, value: object) -> int:
    """An entry of a list; InputError, naming `name`, for what no list can hold."""
    try:
        entry = FIELD_ELEMENT.read(value)
    except PydanticCustomError as error:
        raise InputError(name, error.message()) from None
    if entry == EMPTY:
        raise InputError(name, _EMPTY_ENTRY)
    return entry


class MerkleRequest(Request):
    """A list and the place of an entry."""

    leaves: Annotated[
        list[Element],
        FailFast(),
        Field(
            min_length=1,
            max_length=MAX_LEAVES,
            description=f"the list, in order; none of its entries is {EMPTY}, which marks an empty place",
        ),
    ]
    leaf_index: Annotated[
        Annotated[int, Number("LeafIndex", MAX_LEAVES, f"{MAX_LEAVES} and the number of leaves")],
        Field(description="which leaf is the prover's, from 0; below the number of leaves"),
    ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if EMPTY in self.leaves:
            raise wrong(_EMPTY_ENTRY, f"leaves[{self.leaves.index(EMPTY)}]")
        if self.leaf_index >= len(self.leaves):
            message = f"is out of range; it must be 0 or more and below {len(self.leaves)}, the number of leaves"
            raise wrong(message, "leaf_index")
        return self

    def signals(self) -> Signals:
        """Return the circuit's signals."""
        leaves, index = tuple(self.leaves), self.leaf_index
        return {"leaf": (leaves[index],), "leaf_index": (index,), "siblings": tree_of(leaves).path(index)}


def _evaluate(signals: Signals) -> tuple[int, ...]:
    (leaf,), (index,), siblings = signals["leaf"], signals["leaf_index"], signals["siblings"]
    if leaf == EMPTY:
        raise UnsatisfiedInputs("leaf must not be the mark of an empty place")
    if index >= 2**DEPTH:
        raise UnsatisfiedInputs(f"leaf_index must be below 2^{DEPTH}")
    return (root_of(leaf, index, siblings),)


CIRCUIT = Circuit(
    name="merkle_proof",
    statement="the prover knows an entry of the list whose Merkle root is `root`",
    shape={"leaf": None, "leaf_index": None, "siblings": DEPTH},
    public=("root",),
    request=MerkleRequest,
    evaluate=_evaluate,
    sample={"leaves": [11, 22, 33], "leaf_index": 2},
)
