"""Tests. The folders mirror the rooms of jaxrl; tests of pages, the wheel, benchmarks and experiments
stand beside them.

What several tests share lies in modules here, and no test file imports from another:
small.py          every agent with its smallest settings, and comparing what they end with
command_line.py   the command line, in the process of the tests and in subprocesses
pages.py          the code of README, docs/ and notebooks, and running it
told.py           an environment that does as its actions say
chain.py          environments whose values have closed forms
toys.py           an agent and an environment whose best hyper-parameter is known
plain_dqn.py      DQN in as few lines as it takes
event_files.py    TensorBoard's and W&B's files, read back
same_bits.py      digests of a sweep and of a population, on any number of devices
conftest.py       set-up of the session
changed.py        which tests `make check` runs
"""
