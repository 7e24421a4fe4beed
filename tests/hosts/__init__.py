"""Tests on real machines: Debian hosts with systemd of their own, booted here, and disks that lose power.

They need root. The hosts are deployed on as an operator does it, and looked at from outside; `python -m tests.hosts`
boots some to play with.
"""
