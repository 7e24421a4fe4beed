"""Subcommands of `pki`: they parse arguments and print results; the other packages do the work."""
