// Public: sum. Private: a, b.
// Statement: sum = a + b as integers, where a and b are below 2^64 (so the sum is below 2^65).
pragma circom 2.0.0;

include "bitify.circom";

template Addition(bits) {
    signal input a;
    signal input b;
    signal output sum;

    // Without these, every number would be the sum of some two field elements.
    component a_bits = Num2Bits(bits);
    component b_bits = Num2Bits(bits);
    a_bits.in <== a;
    b_bits.in <== b;

    sum <== a + b;
}

component main = Addition(64);
