"""The certificate authority, its files and its command; the one room that makes TLS contexts and credentials.

The authority (`authority.py`) works in memory and is told the time; `store.py` keeps it on disk; `commands/`
reads what is typed. Daemons meet this room through `identity.py` (who a certificate names) and `material.py` (what
they serve and dial with). DESIGN.md says why.
"""

import os

# gRPC has no "TLS 1.3 only". Its TLS 1.2 is left with a suite for RSA certificates, which this network has none
# of; the suites of TLS 1.3 are not affected. gRPC reads this once, when it is first imported: a program imports
# this room before anything that imports gRPC. (`peers.py` refuses calls over TLS 1.2 whatever the order was.)
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384")

# Nor does it touch a process that forks: uvloop forks to start another program, and gRPC's handlers abort some of the
# children before they become it, when calls are under way.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
