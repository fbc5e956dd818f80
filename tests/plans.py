"""The smallest plan that trains, which tests share with its compiled programs, and callbacks that look on."""

import dataclasses

from jaxrl.experiment.experiment import resolve
from jaxrl.sweeps import plan as plans

PER, ITERATIONS = 16, 20  # environment steps of an iteration
STEPS = PER * ITERATIONS


def small_plan(eval_every=0):
    """A run of seeds 0 and 1: 20 iterations of 16 steps of Q-learning."""
    settings = {"config": {"updates_per_iteration": PER}, "preset": "none", "total_steps": STEPS}
    return plans.make_run(resolve("q_learning", "CliffWalking", **settings), 2, 0, eval_every=eval_every)


def with_callbacks(plan, *names, eval_every=0):
    """The same programs, told to these callbacks."""
    return dataclasses.replace(plan, callbacks=list(names), eval_every=eval_every)


class Looks:
    """Notes after how many iterations it was told, of how many, and the states where it may read them."""

    def __init__(self, every=0):
        self.every, self.told, self.counts, self.states, self.left = every, [], [], {}, 0

    def update(self, event):
        self.told.append(event.env_steps // PER)
        self.counts.append(sum(chunk.count for chunk in event.chunks))
        self.states[self.told[-1]] = event.state()

    def leave(self, event):
        self.left = sum(chunk.count for chunk in event.chunks)


class Stops:
    """Ends training after so many iterations."""

    def __init__(self, after, every=PER):
        self.after, self.every = after, every

    def update(self, event):
        if event.env_steps >= self.after * PER:
            event.stop(f"{self.after} are enough")
