"""Makes a coordinator under test meet in seconds what takes days: new segments, snapshots, a log that was cut.

On PYTHONPATH of the processes of a network under test; every Python process imports it before anything else.
"""

import functools
import sys

if "coordinator" in sys.orig_argv:
    from coordinator import raft

    # Smaller defaults for `serve`, which imports the class after this.
    raft.RaftOptions = functools.partial(  # type: ignore[misc,assignment]
        raft.RaftOptions, segment_bytes=16 << 10, snapshot_entries=200, trailing_entries=50
    )
