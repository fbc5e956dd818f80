"""Measurements that take longer than a test: each script prints a table and keeps its JSON in benchmarks/results."""
