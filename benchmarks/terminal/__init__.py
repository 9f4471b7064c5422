"""`just bench terminal`: the way from a key to its echo, and from a machine's output to a client."""
