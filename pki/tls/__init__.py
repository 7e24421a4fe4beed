"""TLS credentials and contexts. The only package that makes a TLS context."""
