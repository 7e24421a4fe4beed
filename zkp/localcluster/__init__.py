"""A cluster on one machine, for `zkp local`, the demo and tests."""
