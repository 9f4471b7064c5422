"""How any process of ours reads its settings, connects to the bus, logs and reports its health."""
