"""Connections between nodes: framing, one connection, one connection per peer."""
