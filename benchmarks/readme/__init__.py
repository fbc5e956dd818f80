"""README.md out of the result files: its tables, and the charts it shows."""
