"""The ClickHouse engine (chDB) in a process of its own, behind the ClickHouse HTTP interface."""
