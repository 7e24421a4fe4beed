"""The client side of the network: finding the leader, submitting tasks, watching them, asking for status.

Workers, the gateway and the `zkp` command all reach coordinators through `leader.py`; nothing else opens a
gRPC channel. Import the modules: this one loads none of them, so that the pure ones (`backoff.py`,
`leader_search.py`) load without gRPC.
"""

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only
