"""Environments that other libraries write in JAX, as `Env`: a file a library."""
