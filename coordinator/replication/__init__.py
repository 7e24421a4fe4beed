"""The way of a command into the Raft log: group commit, and the answer to its proposer."""
