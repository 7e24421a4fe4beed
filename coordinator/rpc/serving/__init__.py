"""gRPC over HTTP/2 for servers (gRPC's PROTOCOL-HTTP2.md): messages, metadata, calls, connections, the listener."""
