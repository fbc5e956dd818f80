"""Environments: our own, one a file with `make(**kwargs) -> Env`, found by name; libraries' in adapters/ and host/."""
