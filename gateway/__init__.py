"""HTTPS/JSON API gateway to the proving network.

A gateway holds no durable state: it turns a request into a submission, sends it to the leading coordinator through
the client library, and returns the coordinators' answer. Any number of gateways can run side by side; a caller may
use a different one for every request.

Pure modules: `problems`, `json_body`, `fields`, `requests`, `idempotency`, `ratelimit`, `callers` (except for reading
its file), `tasks_json`, `schemas`, `openapi`. Modules with sockets, processes and clocks: `middleware`, `handlers`,
`submission_pool`, `leader_probe`, `app`, `serve`.
"""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
