"""Coordinators whose disks are mounted images, so that their power can be lost. Needs root and loop devices alone."""
