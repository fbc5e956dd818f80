"""Simulators outside the compiled program: what runs them (pool.py), and a file for each library."""
