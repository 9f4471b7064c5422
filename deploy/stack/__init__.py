"""The single-machine stack: every part of the system on this machine, each a process of its own."""
