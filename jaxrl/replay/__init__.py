"""Replay buffers: pure functions on immutable storage inside an agent's state."""
