"""`merkle_proof`: I know an entry of the list whose Merkle root is `root`, without saying which."""

from collections.abc import Mapping

from proofs.circuit import Circuit, element, integer
from proofs.errors import InputError, UnsatisfiedInputs
from proofs.signals import Signals
from proofs.tree import DEPTH, EMPTY, root_of, tree_of

MAX_LEAVES = 65_536  # a request's; the circuit itself allows 2^DEPTH


def leaf(name: str, value: object) -> int:
    """An entry of a list; InputError, naming `name`, for what no list can hold."""
    entry = element(name, value)
    if entry == EMPTY:
        raise InputError(name, "is the mark of an empty place; leave it out")
    return entry


def _read(request: Mapping[str, object]) -> Signals:
    entries = request.get("leaves")
    if not isinstance(entries, list | tuple) or not entries:
        raise InputError("leaves", "must be a list of at least one field element")
    if len(entries) > MAX_LEAVES:
        raise InputError("leaves", f"has {len(entries)} entries; at most {MAX_LEAVES} are taken")
    leaves = tuple(leaf(f"leaves[{position}]", entry) for position, entry in enumerate(entries))
    index = integer("leaf_index", request.get("leaf_index"), len(leaves), f"{len(leaves)}, the number of leaves")
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
    request=("leaves", "leaf_index"),
    read=_read,
    evaluate=_evaluate,
    sample={"leaves": [11, 22, 33], "leaf_index": 2},
)
