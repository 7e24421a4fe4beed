"""The coordinator: one of three that agree on every task through Raft, hand it out and check its proof."""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
