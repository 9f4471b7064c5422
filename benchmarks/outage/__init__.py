"""ClickHouse down for long, while sessions produce and `audit` is killed: is everything there afterwards, once?"""
