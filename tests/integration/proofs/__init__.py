"""Integration tests of the proofs room: real keys, real proofs."""
