"""What measurements share: the runner, processes of their own, timing, result files, a browser, a cluster of Ray."""
