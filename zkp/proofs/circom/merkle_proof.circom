// Public: root. Private: leaf, leaf_index, siblings.
// Statement: some leaf other than EMPTY stands at some place of the depth-20 tree whose root is `root`.
pragma circom 2.0.0;

include "bitify.circom";
include "comparators.circom";
include "poseidon.circom";
include "switcher.circom";

template MerkleProof(depth, empty) {
    signal input leaf;
    signal input leaf_index;
    signal input siblings[depth]; // lowest first
    signal output root;

    // Places without an entry hold `empty`: none of them may be proved to be a member.
    component vacant = IsEqual();
    vacant.in[0] <== leaf;
    vacant.in[1] <== empty;
    vacant.out === 0;

    // Boolean by construction, so that the switches below can only swap or not swap. Bit i tells whether
    // the node at height i is the right child.
    component bits = Num2Bits(depth);
    bits.in <== leaf_index;

    component order[depth];
    component parent[depth];
    signal node[depth + 1];
    node[0] <== leaf;
    for (var i = 0; i < depth; i++) {
        order[i] = Switcher();
        order[i].sel <== bits.out[i];
        order[i].L <== node[i];
        order[i].R <== siblings[i];

        parent[i] = Poseidon(2);
        parent[i].inputs[0] <== order[i].outL;
        parent[i].inputs[1] <== order[i].outR;
        node[i + 1] <== parent[i].out;
    }
    root <== node[depth];
}

// The bytes "empty place" as a number, as in proofs/tree.py.
component main = MerkleProof(20, 122618320155821641251775333);
