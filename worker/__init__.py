"""The worker: finds the leader, proves assigned tasks, reports each proof once."""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
