"""What stands in on test hosts for programs that can be had neither from Debian nor from a registry of packages."""
