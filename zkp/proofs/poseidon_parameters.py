"""Constants of the Poseidon permutation, derived from the field's order alone.

The Poseidon paper (eprint.iacr.org/2019/458, appendix F) draws them from a Grain LFSR that is seeded with
the parameters themselves, so that they could not be chosen; circomlib uses the same drawing, which is
why its circuits and `proofs.poseidon` agree. Appendix B of the paper shows how the partial rounds can be
rewritten with sparse matrices; `optimised` does that once per process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

from zkp.proofs.field import ORDER

WIDTH = 3  # state elements: two inputs and the capacity
FULL_ROUNDS = 8  # four before the partial rounds, four after
PARTIAL_ROUNDS = 57
_FIELD_BITS = 254

Row = tuple[int, int, int]
Matrix = tuple[Row, Row, Row]


@dataclass(frozen=True)
class Parameters:
    """The permutation as the paper defines it."""

    constants: tuple[Row, ...]  # one row a round: added to the state before its S-boxes
    mds: Matrix  # multiplies the state (a column) after them


@dataclass(frozen=True)
class Optimised:
    """The same permutation with all but one constant and five matrix entries a partial round moved out."""

    first: tuple[Row, ...]  # constants of the first three full rounds
    mds: Matrix
    entry_before: Row  # the fourth: its constants, what replaces its matrix, and what is added then
    entry_matrix: Matrix
    entry_after: Row
    partial: tuple[tuple[int, int, int, int, int, int], ...]  # (constant, m00, m01, m02, m10, m20) a round
    last: tuple[Row, ...]  # constants of the last four full rounds


def _grain() -> Iterator[int]:
    """The bits of the paper's 80-bit Grain LFSR in self-shrinking mode."""
    fields = ((1, 2), (0, 4), (_FIELD_BITS, 12), (WIDTH, 12), (FULL_ROUNDS, 10), (PARTIAL_ROUNDS, 10))
    seed = "".join(f"{value:0{bits}b}" for value, bits in fields) + "1" * 30
    state = int(seed[::-1], 2)  # bit i of the integer is b_i of the paper

    def step() -> int:
        nonlocal state
        bit = (state ^ state >> 13 ^ state >> 23 ^ state >> 38 ^ state >> 51 ^ state >> 62) & 1
        state = state >> 1 | bit << 79
        return bit

    for _ in range(160):
        step()
    while True:
        chosen, bit = step(), step()
        if chosen:
            yield bit


def _draw(bits: Iterator[int]) -> int:
    """The next 254 bits as an integer, most significant first."""
    return int("".join(map(str, islice(bits, _FIELD_BITS))), 2)


@cache
def parameters() -> Parameters:
    """Draw round constants (values outside the field are skipped), then a Cauchy matrix."""
    bits = _grain()
    inside = (value for value in iter(lambda: _draw(bits), -1) if value < ORDER)
    constants = tuple((next(inside), next(inside), next(inside)) for _ in range(FULL_ROUNDS + PARTIAL_ROUNDS))
    x0, x1, x2, *ys = (_draw(bits) % ORDER for _ in range(2 * WIDTH))
    return Parameters(constants, (_cauchy_row(x0, ys), _cauchy_row(x1, ys), _cauchy_row(x2, ys)))


def _cauchy_row(x: int, ys: list[int]) -> Row:
    first, second, third = (pow(x + y, -1, ORDER) for y in ys)
    return first, second, third


def _apply(matrix: Matrix, vector: Row) -> Row:
    first, second, third = (sum(a * b for a, b in zip(row, vector, strict=True)) % ORDER for row in matrix)
    return first, second, third


def _multiply(left: Matrix, right: Matrix) -> Matrix:
    columns = [_apply(left, column) for column in _transpose(right)]
    return _transpose((columns[0], columns[1], columns[2]))


def _transpose(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return (a, d, g), (b, e, h), (c, f, i)


def _inverse(matrix: Matrix) -> Matrix:
    """By cofactors."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors: Matrix = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    scale = pow(a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0], -1, ORDER)
    first, second, third = ((x * scale % ORDER, y * scale % ORDER, z * scale % ORDER) for x, y, z in cofactors)
    return first, second, third


@cache
def optimised() -> Optimised:
    """Rewrite the partial rounds, from the last to the first.

    A partial round's S-box touches element 0 alone. So constants of the other elements may move back
    through the inverse MDS matrix into the round before, and of the matrix M = S·D (S sparse, D leaving
    element 0 alone) the factor D may move before the S-box and merge with the round before.
    """
    plain = parameters()
    half = FULL_ROUNDS // 2
    rounds = list(plain.constants[half : half + PARTIAL_ROUNDS])
    inverse = _inverse(plain.mds)
    scalars = [0] * PARTIAL_ROUNDS  # added to element 0 after the S-box
    for i in range(PARTIAL_ROUNDS - 1, 0, -1):
        scalars[i - 1], second, third = _apply(inverse, rounds[i])
        before = rounds[i - 1]
        rounds[i - 1] = (before[0], (before[1] + second) % ORDER, (before[2] + third) % ORDER)

    partial: list[tuple[int, int, int, int, int, int]] = []
    matrix = plain.mds
    for scalar in reversed(scalars):
        (m00, m01, m02), (m10, d11, d12), (m20, d21, d22) = matrix
        dense: Matrix = ((1, 0, 0), (0, d11, d12), (0, d21, d22))
        _, s01, s02 = _apply(_transpose(_inverse(dense)), (0, m01, m02))
        partial.append((scalar, m00, s01, s02, m10, m20))
        matrix = _multiply(dense, plain.mds)
    return Optimised(
        first=plain.constants[: half - 1],
        mds=plain.mds,
        entry_before=plain.constants[half - 1],
        entry_matrix=matrix,
        entry_after=_apply(dense, rounds[0]),
        partial=tuple(reversed(partial)),
        last=plain.constants[half + PARTIAL_ROUNDS :],
    )
