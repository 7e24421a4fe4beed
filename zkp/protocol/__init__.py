"""The protocol between clients, workers and coordinators: .proto files, generated code, limits, shared enums."""
