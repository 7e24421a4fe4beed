// Public: commitment, min, max. Private: value, blinding.
// Statement: commitment = Poseidon(value, blinding), and min <= value <= max as integers below 2^64.
pragma circom 2.0.0;

include "bitify.circom";
include "poseidon.circom";

template RangeProof(bits) {
    signal input value;
    signal input blinding;
    signal input min;
    signal input max;
    signal output commitment;

    // Three integers below 2^bits: the bounds too, for a bound near the field's order would stand for a
    // negative number. Then a difference is below 2^bits exactly when it is not negative: a negative one
    // wraps to a number of 254 bits.
    component in_range[5];
    for (var i = 0; i < 5; i++) {
        in_range[i] = Num2Bits(bits);
    }
    in_range[0].in <== value;
    in_range[1].in <== min;
    in_range[2].in <== max;
    in_range[3].in <== value - min;
    in_range[4].in <== max - value;

    component hash = Poseidon(2);
    hash.inputs[0] <== value;
    hash.inputs[1] <== blinding;
    commitment <== hash.out;
}

component main {public [min, max]} = RangeProof(64);
