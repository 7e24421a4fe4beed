"""Checks of certificates and of whole deployments: inspection, simulation, audit, expiry."""
