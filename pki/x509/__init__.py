"""Certificates, revocation lists and keys: reading, identities, name constraints, chains."""
