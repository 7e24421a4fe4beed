"""The certificate authority in memory: requests, profiles, signing."""
