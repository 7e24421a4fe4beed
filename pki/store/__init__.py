"""The authority's directory: ledger, state, revocation lists, rotation."""
