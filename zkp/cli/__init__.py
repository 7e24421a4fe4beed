"""The `zkp` command: parse, call the library, print. No logic of the network lives here.

On a terminal output is rich, in a pipe it is plain lines, with `--json` it is JSON; progress and errors
go to standard error. Exit status: 0 done, 1 failed, 2 used wrongly.
"""
