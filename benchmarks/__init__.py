"""Measurements that take longer than a test: `python -m benchmarks`.

measure/   one measurement a file: `run NAME` runs measure/NAME.py and keeps its rows in results/NAME.json
harness/   what they share: the runner, processes of their own, timing, result files and their comparison, a browser, Ray
peers/     other libraries on the same work
readme/    README's tables and charts out of the result files
oracles.py exact action values, which tests use too
"""
