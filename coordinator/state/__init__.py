"""The replicated state machine: commands in, events out. Pure: no clock, no randomness, no I/O."""
