"""The use cases behind the API. They know neither gRPC nor SQL."""
