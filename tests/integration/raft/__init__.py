"""Three Raft nodes in one process: real mutual TLS on loopback, real disks, the real clock."""
