"""Our coordinators beside etcd on one machine: `python -m tests.bench.raft --help`, or `make bench`.

Both clusters are three processes with mutual TLS and their default fsync; the same generator loads both in turn.
"""
