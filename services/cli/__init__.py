"""The command line program `vsay`."""
