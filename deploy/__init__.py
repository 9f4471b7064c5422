"""How the system is run: the single-machine stack, its parts, and the generated documents."""
