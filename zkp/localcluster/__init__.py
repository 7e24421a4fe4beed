"""The cluster on one machine: `zkp local`."""
