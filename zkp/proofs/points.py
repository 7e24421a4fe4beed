"""The points of BN254 that a verifying key holds: on the curve, in the group, not a point that anyone knows.

G1 is all of y² = x³ + 3 over the base field. G2 is a part of y² = x³ + 3/(9 + u) over its quadratic extension, whose
elements c0 + c1·u (u² = -1) are pairs (c0, c1) here. A G2 check takes about 8 ms, a G1 check microseconds.
"""

from zkp.proofs.field import ORDER
from zkp.proofs.snarkjs import BASE_ORDER

Element = tuple[int, int]
G1Point = tuple[int, int]
G2Point = tuple[Element, Element]

# The generators that every implementation uses (EIP-197): their logarithm is 1, and everyone knows it.
G1_GENERATOR: G1Point = (1, 2)
G2_GENERATOR: G2Point = (
    (
        10857046999023057135944570762232829481370756359578518086990519993285655852781,
        11559732032986387107991004021392285783925812861821192530917403151452391805634,
    ),
    (
        8495653923123431417604973247489272438418190587263600148770280649306958101930,
        4082367875863433681332203403145435568316851327593401208105741076214120093531,
    ),
)


def in_g1(point: G1Point) -> bool:
    """Whether the point is in G1: the curve's order is prime, so every point on it is. Not for infinity."""
    x, y = point
    return max(x, y) < BASE_ORDER and (y * y - x * x * x - 3) % BASE_ORDER == 0


def in_g2(point: G2Point) -> bool:
    """Whether the point is on the curve and in its subgroup of prime order. Not for infinity."""
    x, y = point
    if max(*x, *y) >= BASE_ORDER:
        return False
    on_curve = _times(y, y) == _plus(_times(x, _times(x, x)), _TWIST)
    return on_curve and _multiple(point, ORDER) is None


def _plus(a: Element, b: Element, sign: int = 1) -> Element:
    return (a[0] + sign * b[0]) % BASE_ORDER, (a[1] + sign * b[1]) % BASE_ORDER


def _times(a: Element, b: Element) -> Element:
    return (a[0] * b[0] - a[1] * b[1]) % BASE_ORDER, (a[0] * b[1] + a[1] * b[0]) % BASE_ORDER


def _inverse(a: Element) -> Element:
    norm = pow(a[0] * a[0] + a[1] * a[1], -1, BASE_ORDER)
    return a[0] * norm % BASE_ORDER, -a[1] * norm % BASE_ORDER


_TWIST = _times((3, 0), _inverse((9, 1)))


def _sum(a: G2Point | None, b: G2Point | None) -> G2Point | None:
    """The sum of two points on the curve; None is the point at infinity."""
    if a is None or b is None:
        return b if a is None else a
    (ax, ay), (bx, by) = a, b
    if ax != bx:
        slope = _times(_plus(by, ay, -1), _inverse(_plus(bx, ax, -1)))
    elif ay == by and ay != (0, 0):
        square = _times(ax, ax)
        slope = _times(_plus(square, _plus(square, square)), _inverse(_plus(ay, ay)))
    else:
        return None
    x = _plus(_plus(_times(slope, slope), ax, -1), bx, -1)
    return x, _plus(_times(slope, _plus(ax, x, -1)), ay, -1)


def _multiple(point: G2Point, factor: int) -> G2Point | None:
    total: G2Point | None = None
    for bit in f"{factor:b}":
        total = _sum(total, total)
        if bit == "1":
            total = _sum(total, point)
    return total
