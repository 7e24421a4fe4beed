"""Three coordinators as processes, hurt in earnest: killed, stopped, out of space, with damaged files."""
