"""Configurations × seeds: the plan, its waves, the result and its directory; also on Ray."""
