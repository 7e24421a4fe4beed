"""Replication of commands through the Raft log: group commit, and the outcome for each proposer."""
