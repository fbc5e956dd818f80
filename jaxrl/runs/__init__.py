"""Training on the host: the driver, a run's directory, checkpoints, metrics, sinks."""
