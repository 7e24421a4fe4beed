"""Makes a coordinator under test meet in seconds what takes days: new segments, snapshots, a log that was cut.

On PYTHONPATH of the processes of a network under test; every Python process imports it before anything else.
"""

import functools
import sys

if "coordinator" in sys.orig_argv:
    from coordinator import raft
    from coordinator.raft import snapshots

    raft.RaftOptions = functools.partial(raft.RaftOptions, segment_bytes=16 << 10, snapshot_entries=200)  # type: ignore[misc,assignment]  # a smaller default for `serve`, which imports it after this
    snapshots._TRAILING_ENTRIES = 50
