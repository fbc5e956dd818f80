"""Environments: our own, one a file with `make(**kwargs) -> Env`, found by name; and gymnax's through one adapter."""
