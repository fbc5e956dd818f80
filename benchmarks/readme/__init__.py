"""Pages out of the result files: the tables of README.md and docs/benchmarks.md, and the charts they show."""
