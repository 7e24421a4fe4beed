"""Certificate authority, its files and its command; the only package that makes TLS contexts and credentials.

The authority (`ca/authority.py`) works in memory and takes the time as an argument; `store/store.py` keeps it on
disk; `commands/` is the command line. Daemons use `x509/identity.py` (the identity in a certificate) and
`tls/material.py` (contexts and credentials to serve and dial with). DESIGN.md gives the reasons.
"""

import os

# gRPC has no option for TLS 1.3 only. For TLS 1.2 this leaves one suite, which needs an RSA certificate, and this
# network has none; the suites of TLS 1.3 are not affected. gRPC reads the variable once, when it is first imported,
# so a program must import this package before anything that imports gRPC. (`tls/peers.py` refuses calls over TLS 1.2
# in any case.)
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384")

# Disable gRPC's fork handlers: uvloop forks to start another program, and with calls in progress the handlers abort
# some of the children before exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
