"""The gRPC API: authorization, conversion, and the services."""
