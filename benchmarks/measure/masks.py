"""What an action mask is worth: `python -m benchmarks run masks`.

The shortest round trip through 12 places, each visited once: a place that was visited is no legal action, and going there
ends the episode. Agents with the mask and without, else the same (without it they see which places are free, too). The
optimum is by dynamic programming (Held and Karp 1962). Illegal actions are counted over all of training.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks.harness.runner import Part, Row
from jaxrl.core import stats
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.devices.layout import Layout

PLACES, SEEDS, STEPS, EPISODES = 12, 8, 300_000, 100
ILLEGAL = -10.0  # the reward of going where one has been; the longest round trips cost less
AGENTS = ("ppo", "dqn")


def distances() -> np.ndarray:
    """Between places in the unit square: float32 [P, P]."""
    at = np.random.default_rng(0).uniform(size=(PLACES, 2))
    return np.linalg.norm(at[:, None] - at[None], axis=-1).astype(np.float32)


def optimum(distance: np.ndarray) -> float:
    """The least length of a round trip from place 0 through all others."""
    rest = range(1, len(distance))
    best = {(frozenset([i]), i): distance[0, i] for i in rest}  # of paths through a set of places, by their last place
    for size in range(2, len(distance)):
        for visited in map(frozenset, itertools.combinations(rest, size)):
            for last in visited:
                before = visited - {last}
                best[visited, last] = min(best[before, i] + distance[i, last] for i in before)
    return float(min(best[frozenset(rest), i] + distance[i, 0] for i in rest))


def round_trip(masked: bool) -> jaxrl.Env:
    """An episode is a round trip; the reward is the way that a step takes, as a cost. masked: forbid what was visited."""
    distance = jnp.asarray(distances())
    free_space = Box((PLACES,), 0, 1, jnp.bool_)
    parts: dict[str, Any] = {"place": Discrete(PLACES), "free": free_space} | ({"action_mask": free_space} if masked else {})

    def look(place: jax.Array, free: jax.Array) -> dict[str, jax.Array]:
        seen = {"place": place, "free": free}
        return seen | {"action_mask": free} if masked else seen

    def reset(key: jax.Array, params: Any) -> Any:
        place, free = jnp.int32(0), jnp.arange(PLACES) > 0
        return (place, free), look(place, free)

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> Any:
        place, free = state
        illegal, left = ~free[action], free & (jnp.arange(PLACES) != action)
        whole = ~left.any()
        way = distance[place, action] + jnp.where(whole, distance[action, 0], 0.0)
        # A step is taken after the last one, too; there any place is as good, for a mask allows one at least.
        out = jaxrl.EnvStep(
            look(action, left | whole), jnp.where(illegal, ILLEGAL, -way), illegal | whole, jnp.bool_(False),
            {"illegal": illegal.astype(jnp.float32)},
        )  # fmt: skip
        return (action, left), out

    return jaxrl.Env(jaxrl.EnvSpec("RoundTrip", Product.of(**parts), Discrete(PLACES)), (), reset, step)


def trained(agent: str, masked: bool, seeds: int, steps: int) -> tuple[np.ndarray, float]:
    """Greedy returns [seeds], and the share of illegal actions in training."""
    trainer = jaxrl.make_trainer(agent, round_trip(masked), total_steps=steps)
    layout = Layout.over_all_devices(seeds)
    states, metrics = layout.map(trainer.train)(layout.pad(jax.vmap(jax.random.key)(jnp.arange(seeds))))
    evaluate = lambda state: jaxrl.evaluate(trainer, state, jax.random.fold_in(state.key, 999), EPISODES).returns.mean()  # noqa: E731
    returns = np.asarray(layout.map(evaluate)(states))[:seeds]
    return returns, float(np.asarray(metrics["illegal"])[:seeds].mean())


def part(agent: str) -> Part:
    """With the mask and without."""

    def rows(smoke: bool) -> Iterator[Row]:
        seeds, steps = (2, 3_000) if smoke else (SEEDS, STEPS)
        best = -optimum(distances())
        for masked in (True, False):
            returns, illegal = trained(agent, masked, seeds, steps)
            yield {
                "work": f"{agent} RoundTrip, {PLACES} places, {'with' if masked else 'without'} the mask",
                "seeds": seeds,
                "steps": steps,
                "mean": float(returns.mean()),
                "interval": list(stats.bootstrap_interval(returns)) if not smoke else None,
                "per_seed": returns.tolist(),
                "optimum": best,
                "illegal_in_training": illegal,
                "must": f"no illegal action in {seeds * steps:,} steps; near the optimum" if masked else "worse",
            }

    return rows


PARTS: dict[str, Part] = {agent: part(agent) for agent in AGENTS}
SMOKES = ("ppo",)
