"""agents/transforms.py against NumPy statistics, around an agent that reports what it is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.parts import transforms
from jaxrl.agents.parts.transforms import EPSILON, LIMIT, Moments
from jaxrl.core.means import Mean
from jaxrl.core.settings import hyperparameters
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Agent, Clock, EnvSpec, Rollout, Transition

SPEC = EnvSpec("Seen", Box((2,)), Discrete(2))
CLOCK = Clock(jnp.int32(0), jnp.float32(0))


@hyperparameters
class HParams:
    gamma: float = 0.5


def witness() -> Agent:
    """Acts, and learns, what it sees: actions are observations, the state is the last rollout."""

    def init(key, hp, params=None):
        return ()

    def act(hp, state, memory, obs, first, clock, key):
        return obs, memory, ()

    def greedy(hp, state, memory, obs, first, key):
        return obs, memory

    def learn(hp, state, rollout, clock, key):
        return rollout.steps, {"reward": Mean.of(rollout.steps.reward)}

    return Agent(init, lambda n: (), act, greedy, learn)


def rollout(rng, length=5, num_envs=3, valid=None, ended=None):
    shape = (length, num_envs)
    obs = rng.normal(3, 2, (*shape, 2)).astype(np.float32)
    reward = rng.normal(1, 5, shape).astype(np.float32)
    ended = np.zeros(shape, bool) if ended is None else ended
    valid = np.ones(shape, bool) if valid is None else valid
    next_obs = rng.normal(3, 2, (*shape, 2)).astype(np.float32)
    none = np.zeros(shape, bool)
    return Rollout(Transition(obs, none, none, reward, ended, none, next_obs, (), valid), ())


def learn(agent, state, rollout):
    return jax.jit(agent.learn)(HParams(), state, rollout, CLOCK, jax.random.key(0))[0]


def start(agent):
    return agent.init(jax.random.key(0), HParams())


@pytest.mark.parametrize("batches", [1, 2, 7])
def test_moments_merge_to_those_of_all_rows(batches):
    x = np.random.default_rng(0).normal(5, 3, (batches, 4, 3, 2)).astype(np.float32)
    mask = np.random.default_rng(1).random((batches, 4, 3)) < 0.7
    moments = Moments.of_nothing((2,))
    for rows, counts in zip(x, mask, strict=True):
        moments = moments.updated(rows, jnp.array(counts))
    np.testing.assert_allclose(moments.count, mask.sum())
    np.testing.assert_allclose(moments.mean, x[mask].mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, x[mask].var(0), rtol=1e-5)


def test_moments_of_no_rows_stay():
    before = Moments.of_nothing((2,)).updated(jnp.full((2, 1, 2), 4.0), jnp.ones((2, 1), bool))
    after = before.updated(jnp.full((2, 1, 2), jnp.nan_to_num(jnp.inf)), jnp.zeros((2, 1), bool))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    empty = Moments.of_nothing(())
    for a, b in zip(empty, empty.updated(jnp.ones((1, 1)), jnp.zeros((1, 1), bool)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_observations_are_scaled_by_what_was_seen_before():
    """The rollout is learnt from as it was acted on: with the moments before it, which only then move."""
    agent, rng = transforms.normalize_observations(witness(), SPEC), np.random.default_rng(0)
    first, second = rollout(rng), rollout(rng)
    state = learn(agent, start(agent), first)
    np.testing.assert_allclose(state.inner.obs, first.steps.obs, atol=1e-6)  # nothing seen yet: mean 0, variance 1
    mean, variance = first.steps.obs.mean((0, 1)), first.steps.obs.var((0, 1))
    obs = second.steps.obs[0]
    expected = (obs - mean) / np.sqrt(variance + EPSILON)
    acted = agent.act(HParams(), state, (), obs, None, CLOCK, None)[0]
    evaluated = agent.greedy(HParams(), state, (), obs, None, None)[0]
    np.testing.assert_allclose(acted, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(acted, evaluated)
    after = learn(agent, state, second)
    np.testing.assert_allclose(after.inner.obs[0], acted, rtol=1e-6)
    np.testing.assert_allclose(
        after.inner.next_obs, (second.steps.next_obs - mean) / np.sqrt(variance), rtol=1e-4, atol=1e-4
    )
    both = np.concatenate([first.steps.obs, second.steps.obs])
    np.testing.assert_allclose(after.moments.mean, both.mean((0, 1)), rtol=1e-5)


def test_a_far_observation_is_cut():
    agent = transforms.normalize_observations(witness(), SPEC)
    state = learn(agent, start(agent), rollout(np.random.default_rng(0)))
    seen = agent.greedy(HParams(), state, (), jnp.array([[1e6, -1e6]]), None, None)[0]
    np.testing.assert_array_equal(seen, [[LIMIT, -LIMIT]])


def test_rewards_are_scaled_by_the_deviation_of_the_discounted_return():
    """γ = ½, G_t = r_t + G_{t-1} / 2 within an episode, carried from rollout to rollout, by a NumPy loop.

    A rollout is scaled by the returns up to its own end, as a step is in VecNormalize (SB3) and NormalizeReward (Gymnasium).
    """
    agent, rng = transforms.normalize_rewards(witness(), num_envs=3), np.random.default_rng(0)
    state, running, seen = start(agent), np.zeros(3), []
    for _ in range(4):
        valid = rng.random((5, 3)) < 0.8
        batch = rollout(rng, ended=(rng.random((5, 3)) < 0.3) & valid, valid=valid)
        for t, n in np.ndindex(5, 3):
            if valid[t, n]:
                running[n] = batch.steps.reward[t, n] + 0.5 * running[n]
                seen.append(running[n])
            if batch.steps.terminated[t, n]:
                running[n] = 0
        state, deviation = learn(agent, state, batch), np.sqrt(np.var(seen) + EPSILON)
        np.testing.assert_allclose(
            state.inner.reward, np.clip(batch.steps.reward / deviation, -LIMIT, LIMIT), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(state.ret, running, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.moments.variance, np.var(seen), rtol=1e-5)


def test_observations_outside_a_box_are_refused():
    with pytest.raises(ValueError, match="normalize_observations needs observations in a Box; Cells has Discrete"):
        transforms.normalize_observations(witness(), EnvSpec("Cells", Discrete(3), Discrete(2)))
