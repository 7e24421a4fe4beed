"""The `zkp` command: it parses arguments, calls the client library and prints the result.

Output is formatted on a terminal, plain in a pipe, and JSON with `--json`; progress and errors are written to
standard error. Exit status: 0 success, 1 failure, 2 usage error.
"""
