"""The worker: finds the leading coordinator, proves the tasks that it is given, reports each proof once."""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
