"""A coordinator whose journal is never synced: what a test of power loss must be able to tell from the real one."""

import os
import sys

if "coordinator" in sys.orig_argv:
    os.fdatasync = lambda _descriptor: None  # type: ignore[assignment]  # typeshed knows a built-in only
