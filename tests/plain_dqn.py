"""Plain DQN in as few lines as it takes: what agents/dqn.py must equal with every option off.

Nothing of agents/dqn.py, replay/ or ops/ is used; random numbers are drawn in the same order.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.dqn import Config, HParams  # noqa: F401 (a factory needs them)
from jaxrl.core.means import Mean
from jaxrl.core.types import Agent
from jaxrl.networks.initializers import near_zero


class State(NamedTuple):
    params: dict
    target_params: dict
    opt_state: tuple
    ring: tuple  # obs, action, reward, terminated, next_obs: [rows, N, ...]
    written: jax.Array  # rows ever


class Q(nn.Module):
    hidden_sizes: tuple
    num_actions: int

    @nn.compact
    def __call__(self, obs):
        for size in self.hidden_sizes:
            obs = nn.relu(nn.Dense(size)(obs))
        return nn.Dense(self.num_actions, kernel_init=near_zero)(obs)


def make(spec, config):
    network, n = Q(config.hidden_sizes, spec.action_space.n), config.num_envs
    rows = config.replay_capacity // n

    def init(key, hp, params=None):
        params = params or network.init(key, jnp.zeros(spec.observation_space.shape))
        obs = jnp.zeros((rows, n, *spec.observation_space.shape))
        ring = (obs, jnp.zeros((rows, n), jnp.int32), jnp.zeros((rows, n)), jnp.zeros((rows, n), bool), obs)
        return State(params, params, optax.adam(hp.learning_rate).init(params), ring, jnp.int32(0))

    def act(hp, state, memory, obs, first, clock, key):
        epsilon = hp.epsilon_start + (hp.epsilon_end - hp.epsilon_start) * jnp.minimum(
            clock.progress / hp.epsilon_fraction, 1.0
        )
        u = jax.vmap(jax.random.uniform)(jax.random.split(key, n))
        explored = jnp.minimum((u / jnp.maximum(epsilon, 1e-30) * spec.action_space.n).astype(int), spec.action_space.n - 1)
        return jnp.where(u < epsilon, explored, network.apply(state.params, obs).argmax(-1)), memory, ()

    def greedy(hp, state, memory, obs, first, key):
        return network.apply(state.params, obs).argmax(-1), memory

    def learn(hp, state, rollout, clock, key):
        s, row = rollout.steps, state.written % rows
        new = (s.obs, s.action, s.reward, s.terminated, s.next_obs)
        ring = tuple(buffer.at[row].set(x[0]) for buffer, x in zip(state.ring, new, strict=True))
        written = state.written + 1
        filled = jnp.minimum(written, rows)
        key = jax.random.split(jax.random.split(key, 1)[0])[0]
        draw = (jax.random.bits(key, (config.batch_size,)) % (filled * n).astype(jnp.uint32)).astype(jnp.int32)
        draw = (jnp.where(filled == rows, written % rows, 0) * n + draw) % (rows * n)
        obs, action, reward, terminated, next_obs = (x.reshape(-1, *x.shape[2:])[draw] for x in ring)

        def loss(params):
            taken = jnp.take_along_axis(network.apply(params, obs), action[:, None], 1)[:, 0]
            following = network.apply(state.target_params, next_obs).max(-1)
            target = reward + jnp.where(terminated, 0.0, hp.gamma) * following
            return jnp.mean(0.5 * (target - taken) ** 2)

        def descend(params, opt_state):
            value, grads = jax.value_and_grad(loss)(params)
            updates, opt_state = optax.adam(hp.learning_rate).update(grads, opt_state)
            return optax.apply_updates(params, updates), opt_state, value

        started = clock.env_steps >= config.learning_starts
        wait = lambda params, opt_state: (params, opt_state, jnp.float32(0))  # noqa: E731
        params, opt_state, value = jax.lax.cond(started, descend, wait, state.params, state.opt_state)
        every = config.target_update_every
        due = clock.env_steps // every > (clock.env_steps - n) // every
        target_params = jax.tree.map(lambda a, b: jnp.where(due, a, b), params, state.target_params)
        return State(params, target_params, opt_state, ring, written), {"loss": Mean.of(value, started)}

    return Agent(init, lambda n: (), act, greedy, learn)
