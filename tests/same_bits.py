"""A sweep and a population, and a digest of all their numbers: equal digests, equal bits, on any number of devices.

`python -m tests.same_bits FUNCTION DEVICES` prints what one of them gives in a process of its own, as JSON.
"""

import hashlib
import json
import subprocess
import sys

import jax
import numpy as np

import jaxrl
from tests.small import small_config


def sweep_of_nine():
    """[digest, devices, padded members, final returns] of a sweep of nine members on this process's devices."""
    result = jaxrl.sweep("reinforce", "CartPole-v1", grid={"learning_rate": [1e-2, 1e-3, 3e-3]}, seeds=3, total_steps=600,
                         config=small_config("reinforce"), preset="none")  # fmt: skip
    agents = [result.agent(*member)[1].agent for member in np.ndindex(3, 3)]
    layout = result.plan.program_list[0].compiled.layout
    rows = [result.metrics[name] for name in sorted(result.metrics)]
    return [digest(rows, agents), layout.devices, layout.padded, result.final_return.tolist()]


def population_of_eight():
    """[digest, devices] of population-based training of eight members on this process's devices."""
    found = jaxrl.tune("q_learning", "RandomGame", method="pbt", population=8, rounds=4, seed=3, total_steps=10_000,
                       config=small_config("q_learning"), preset="none")  # fmt: skip
    return [digest(found.states.agent, found.rounds), found.wave.layout.devices]


def digest(*trees):
    """Of the bytes of all leaves."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def on_devices(function, *counts):
    """What one of the functions above gives here, and in a process for each count of devices; all run at once."""
    commands = [[sys.executable, "-m", "tests.same_bits", function.__name__, str(count)] for count in counts]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in commands]
    found = [function()]
    for process in running:
        printed = process.communicate(timeout=300)[0]
        assert process.returncode == 0
        found.append(json.loads(printed.splitlines()[-1]))
    return found


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
    print(json.dumps({"sweep_of_nine": sweep_of_nine, "population_of_eight": population_of_eight}[sys.argv[1]]()))
