"""The replicated state machine, its bytes and its replication: no sockets, no sleeps, no files but scenarios."""
