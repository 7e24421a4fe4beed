"""The HTTPS door to the proving network: JSON in, tasks and proofs out.

A gateway holds no state that matters: it makes a submission out of a request, hands it to the leading
coordinator through the client library, and shows what the coordinators answer. Any number of gateways can
stand side by side; a caller may use another one for every request.

Pure: `problems`, `json_body`, `requests`, `idempotency`, `ratelimit`, `callers` (but for reading its file),
`tasks_json`, `schemas`, `openapi`. Sockets, processes and clocks: `edge`, `handlers`, `preparation`, `reach`,
`app`, `serve`.
"""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
