"""Memory through the whole house: the loop resets it, learning sees what acting saw, values bootstrap with it."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import ppo
from jaxrl.agents.parts import actor_critic
from jaxrl.core.loop import LoopCarry, make_loop
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, Env, EnvSpec, EnvStep, Rollout
from tests.small import QUICK, released

T, N, LENGTH = 12, 3, 5
TORSOS = ["gru", "lstm", "transformer"]


class State(NamedTuple):
    """noise: what an episode observes from beginning to end. time: steps taken, int32 []."""

    noise: jax.Array
    time: jax.Array


def noise_env() -> Env:
    """Episodes of LENGTH steps, truncated or terminated by turns of a coin, each observing a vector of its own."""

    def obs_of(state):
        return state.noise * (1.0 + state.time)

    def reset(key, params):
        state = State(jax.random.normal(key, (4,)), jnp.int32(0))
        return state, obs_of(state)

    def step(key, state, action, params):
        state = state._replace(time=state.time + 1)
        over, coin = state.time >= LENGTH, state.noise[0] > 0
        return state, EnvStep(obs_of(state), action.astype(jnp.float32), over & coin, over & ~coin)

    return Env(EnvSpec("Noise", Box((4,)), Discrete(3)), (), reset, step)


@cache
def trainer_of(torso, shared):
    config = {"torso": torso, "shared_torso": shared, "hidden_sizes": (8, 8), "window": 4, "kl_penalty": True}
    config |= {"num_envs": N, "rollout_length": T, "num_minibatches": 1}
    return jaxrl.make_trainer("ppo", noise_env(), total_steps=1000, config=config, hparams={"learning_rate": 1e-2})


@cache
def rollout_program(torso, shared):
    """(TrainState) -> Rollout, and the memory after it: what the loop hands to `learn`."""
    trainer = trainer_of(torso, shared)

    def program(state):
        pool = trainer.vec.prepare(jax.random.key(1), state.env_params)
        moving = LoopCarry(state.env, pool, state.obs, state.first, state.memory, state.episode)
        keys = jax.random.split(jax.random.key(2), T), jax.random.split(jax.random.key(3), (T, N))
        after, steps, _ = trainer._rollout(state, state.agent, moving, *keys, Clock(jnp.int32(T * N), jnp.float32(0)))
        return Rollout(steps, state.memory), after.memory

    return jax.jit(program, compiler_options=QUICK)


@cache
def started(trainer):
    """Some iterations into training, in the middle of episodes: memories are not empty."""

    def program(key):
        return jax.lax.fori_loop(0, 2, lambda _, s: trainer.step(s)[0], trainer.init(key))

    return jax.jit(program, compiler_options=QUICK)(jax.random.key(0))


def network_of(trainer):
    config = ppo.Config(num_envs=N, rollout_length=T, num_minibatches=1, window=4, hidden_sizes=(8, 8))
    return lambda torso, shared: actor_critic.network_for(
        trainer.env.spec, ppo.Config(**{**vars(config), "torso": torso, "shared_torso": shared}), "ppo"
    )


@pytest.mark.parametrize(("torso", "shared"), [*((torso, False) for torso in TORSOS), *released(("gru", True))])
def test_the_unrolled_pass_reproduces_the_acting_pass(torso, shared):
    """Logits handed over by `act`, step by step, beside one unroll from the rollout's memory; and the memory after it.

    The cores agree to the bit (test_memory.py); dense layers on [T · N] rows instead of [N] round differently.
    """
    trainer = trainer_of(torso, shared)
    state = started(trainer)
    rollout, memory = rollout_program(torso, shared)(state)
    assert rollout.steps.first.any() and not rollout.steps.first.all(1).all()
    assert any(np.any(np.asarray(x)) for x in jax.tree.leaves(rollout.memory))
    apply = jax.jit(network_of(trainer)(torso, shared).apply, compiler_options=QUICK)
    out, memory_after = apply(state.agent.params, rollout.memory, rollout.steps.obs, rollout.steps.first)
    acted = rollout.steps.extras[1].logits
    np.testing.assert_allclose(out.policy.logits, acted, rtol=1e-4, atol=1e-6)
    still = ~np.asarray(rollout.steps.terminated | rollout.steps.truncated)[-1]  # the loop resets the others afterwards
    for a, b in zip(jax.tree.leaves(memory_after), jax.tree.leaves(memory), strict=True):
        np.testing.assert_allclose(np.asarray(a)[still], np.asarray(b)[still], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("torso", TORSOS)
def test_nothing_of_an_episode_changes_the_next_one(torso):
    """Two runs from other memories and observations: from each environment's first reset on, the same bits."""
    program, state = rollout_program(torso, False), started(trainer_of(torso, False))
    other = state._replace(
        memory=jax.tree.map(lambda x: 7 * x + 3 if jnp.issubdtype(x.dtype, jnp.floating) else x, state.memory),
        obs=-5 * state.obs,
        env=state.env._replace(noise=jnp.abs(state.env.noise) * jnp.sign(state.env.noise[:, :1]) * 2),
    )
    (a, _), (b, _) = program(state), program(other)
    np.testing.assert_array_equal(a.steps.first, b.steps.first)
    next_episode = np.cumsum(np.asarray(a.steps.first)[1:], 0) > 0  # rows of [1, T)
    assert next_episode.any(0).all() and not next_episode.all()
    x, y = (np.asarray(r.steps.extras[1].logits)[1:] for r in (a, b))
    assert not np.array_equal(x[~next_episode], y[~next_episode])
    np.testing.assert_array_equal(x[next_episode], y[next_episode])


@pytest.mark.parametrize("torso", TORSOS)
def test_values_of_next_observations_by_single_steps(torso):
    """V(next_obs) of every step, truncated ones too, against one environment walked step by step with its own memory."""
    trainer = trainer_of(torso, False)
    state = started(trainer)
    rollout, _ = rollout_program(torso, False)(state)
    network, steps = network_of(trainer)(torso, False), rollout.steps
    assert steps.truncated[:-1].any()
    _, found = jax.jit(lambda r: actor_critic.values_and_next_values(network, state.agent.params, r))(rollout)
    step = jax.jit(lambda memory, obs, first: network.apply(state.agent.params, memory, obs[None, None], first[None, None]))
    for n in range(N):
        memory = jax.tree.map(lambda x, n=n: x[n : n + 1], rollout.memory)
        for t in range(T):
            memory = step(memory, steps.obs[t, n], steps.first[t, n])[1]
            expected = step(memory, steps.next_obs[t, n], jnp.bool_(False))[0].value[0, 0]
            if not steps.terminated[t, n]:  # there nothing reads it
                np.testing.assert_allclose(found[t, n], expected, rtol=1e-4, atol=1e-5, err_msg=f"{t}, {n}")


def test_evaluation_resets_memory_too():
    """An agent that adds up what it remembers: greedy episodes after the first start from nothing again."""
    trainer = trainer_of("gru", False)
    agent = trainer.agent._replace(
        memory=lambda n: jnp.zeros(n, jnp.int32),
        greedy=lambda hp, state, memory, obs, first, key: (memory.astype(jnp.int32), memory + 1),
    )
    counting = make_loop(
        noise_env(), agent, trainer.hparams, (), total_steps=100, num_envs=N, rollout_length=T, updates_per_iteration=1
    )
    state = trainer.init(jax.random.key(0))
    result = jaxrl.evaluate(counting, state, jax.random.key(0), episodes=4)
    np.testing.assert_array_equal(result.returns, [0 + 1 + 2 + 3 + 4] * 4)  # the reward is the action: the count
