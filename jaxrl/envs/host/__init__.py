"""Simulators outside the program: pool.py runs them, vec_env.py gives them to the loop; beside them a file a library."""
