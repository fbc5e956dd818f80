"""Training on the host: the driver, a run's directory and checkpoints, progress and sinks, one member over several hosts."""
