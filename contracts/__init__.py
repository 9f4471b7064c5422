"""The shared language of the services: names and data, no I/O."""
