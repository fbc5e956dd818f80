"""Agents: one algorithm a file, found by name. A file defines `Config`, `HParams` and `make(spec, config) -> Agent`."""
