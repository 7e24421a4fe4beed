"""The coordinator: one of three nodes that replicate tasks through Raft, assign them and verify the proofs."""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
