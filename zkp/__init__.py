"""What daemons and other people's programs import: client library, command line, daemons, proofs, protocol."""
