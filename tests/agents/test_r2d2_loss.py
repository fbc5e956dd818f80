"""The loss of agents/r2d2.py against loops over steps, on networks and sequences drawn at random."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import r2d2
from jaxrl.core import trees
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import EnvSpec, Transition
from jaxrl.ops.returns import n_step_returns
from jaxrl.replay.sequence import Sequences

QUICK = {"xla_backend_optimization_level": 1}  # compiles in half the time
SPEC = EnvSpec("Two", Box((3,)), Discrete(2))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_n_step_returns_against_a_loop(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        rewards, next_values = rng.normal(size=(2, 7)).astype(np.float32)
        terminated, truncated = rng.random((2, 7)) < 0.2
        found = n_step_returns(rewards, 0.9, n, jnp.array(terminated), jnp.array(truncated), next_values)
        np.testing.assert_allclose(found, loop_returns(rewards, 0.9, n, terminated, truncated, next_values), rtol=1e-5)


def loop_returns(rewards, gamma, n, terminated, truncated, next_values):
    returns = []
    for t in range(len(rewards)):
        ret, last = 0.0, min(t + n, len(rewards)) - 1
        for k in range(t, last + 1):
            ret += gamma ** (k - t) * rewards[k]
            if terminated[k] or truncated[k] or k == last:
                ret += 0.0 if terminated[k] else gamma ** (k - t + 1) * next_values[k]
                break
        returns.append(ret)
    return np.array(returns)


BATCH = 5


def random_batch(seed, network, length):
    """Sequences with ends everywhere; what follows a step is the next observation, unless the episode ended."""
    rng = np.random.default_rng(seed)
    obs, beyond = rng.normal(size=(2, length, BATCH, 3)).astype(np.float32)
    terminated, truncated = rng.random((2, length, BATCH)) < 0.2
    ended = terminated | truncated
    first = np.concatenate([rng.random((1, BATCH)) < 0.3, ended[:-1]])
    next_obs = np.where(ended[..., None], beyond, np.concatenate([obs[1:], beyond[-1:]]))
    action, reward = rng.integers(0, 2, (length, BATCH)), 3 * rng.normal(size=(length, BATCH)).astype(np.float32)
    valid = rng.random((length, BATCH)) < 0.9
    memory = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), network.initial(BATCH))
    steps = Transition(obs, first, action, reward, terminated, truncated, next_obs, (), valid)
    return jax.tree.map(jnp.asarray, Sequences(memory, steps))


def make_network(config, key):
    network, one = r2d2.q_network(SPEC, config), jnp.ones((1, 1), bool)
    keys = jax.random.split(key)
    params = [jax.jit(network.init)(k, network.initial(1), jnp.zeros((1, 1, 3)), one) for k in keys]
    larger = jax.tree.map(lambda x: 3 * x + 0.1, params)  # so that values differ from each other and from 0
    return network, *larger


def loop_values(network, params, batch, burn_in):
    """Q(obs), Q(next_obs) [T, B, A], a step at a time, the memory reset by hand."""
    step = jax.jit(lambda memory, obs: network.apply(params, memory, obs[None], jnp.zeros((1, BATCH), bool)))
    memory, steps, q, next_q = batch.memory, batch.steps, [], []
    for t in range(len(steps.reward)):
        memory = trees.where(steps.first[t], network.initial(BATCH), memory)
        out, memory = step(memory, steps.obs[t])
        q.append(out[0, ..., 0])
        next_q.append(step(memory, steps.next_obs[t])[0][0, ..., 0])
    return np.array(q[burn_in:]), np.array(next_q[burn_in:])


def h(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x


def inverse(y):
    return np.sign(y) * (((np.sqrt(1 + 4e-3 * (np.abs(y) + 1 + 1e-3)) - 1) / 2e-3) ** 2 - 1)


def loop_loss(network, config, params, target_params, batch, weight):
    """(loss, priorities) in float64, but for the network."""
    q, next_q = (x.astype(np.float64) for x in loop_values(network, params, batch, config.burn_in))
    target_next_q = loop_values(network, target_params, batch, config.burn_in)[1].astype(np.float64)
    steps = jax.tree.map(lambda x: np.asarray(x)[config.burn_in :], batch.steps)
    total, count, priorities = 0.0, 0, []
    for b in range(BATCH):
        choice = (next_q if config.double else target_next_q)[:, b].argmax(-1)
        bootstrap = np.take_along_axis(target_next_q[:, b], choice[:, None], 1)[:, 0]
        bootstrap = inverse(bootstrap) if config.rescale_values else bootstrap
        row = (steps.reward[:, b], 0.9, config.n_step, steps.terminated[:, b], steps.truncated[:, b], bootstrap)
        target = h(loop_returns(*row)) if config.rescale_values else loop_returns(*row)
        error = (target - q[np.arange(len(target)), b, steps.action[:, b]])[steps.valid[:, b]]
        total, count = total + weight[b] * (error**2).sum() / 2, count + len(error)
        priorities.append(0.7 * np.abs(error).max() + 0.3 * np.abs(error).mean())
    return total / count, priorities


PLAIN = {"double": False, "dueling": False, "rescale_values": False, "hidden_sizes": (6,), "rollout_length": 6, "burn_in": 0}
CONFIGS = [PLAIN | {"n_step": 1, "torso": "lstm"}, {"rollout_length": 6, "burn_in": 3, "n_step": 3, "hidden_sizes": (5, 6)}]


@pytest.mark.parametrize("options", CONFIGS)
def test_loss_against_a_loop_over_steps(options):
    config = r2d2.Config(**options)
    hp = r2d2.HParams(gamma=0.9, priority_mixing=0.7)
    network, params, target_params = make_network(config, jax.random.key(4))
    loss = jax.jit(lambda *args: r2d2.loss(params, target_params, network, config, hp, *args), compiler_options=QUICK)
    for seed in range(3):
        batch = random_batch(seed, network, config.burn_in + config.rollout_length)
        weight = np.random.default_rng(seed).random(BATCH).astype(np.float32)
        value, (_, priorities) = loss(batch, weight)
        expected, expected_priorities = loop_loss(network, config, params, target_params, batch, weight)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        np.testing.assert_allclose(priorities, expected_priorities, rtol=1e-4)


def test_burn_in_only_refreshes_the_memory():
    """Loss and gradient are those of the steps after it alone, from the refreshed memory as a given."""
    options = PLAIN | {"burn_in": 3}
    config = r2d2.Config(**options)
    network, params, _ = make_network(config, jax.random.key(4))
    batch = random_batch(0, network, 9)
    memory = network.apply(params, batch.memory, batch.steps.obs[:3], batch.steps.first[:3])[1]
    later = Sequences(memory, jax.tree.map(lambda x: x[3:], batch.steps))

    @functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
    def value_and_grad(config, batch):
        loss = functools.partial(r2d2.loss, network=network, config=config, hp=r2d2.HParams())
        return jax.value_and_grad(lambda p: loss(p, params, batch=batch, weight=jnp.ones(BATCH))[0])(params)

    found = value_and_grad(config, batch)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        found, value_and_grad(r2d2.Config(**PLAIN), later),
    )  # fmt: skip
    other = batch._replace(steps=batch.steps._replace(obs=batch.steps.obs.at[:3].add(1.0)))
    assert abs(float(value_and_grad(config, other)[0] - found[0])) > 1e-4  # but the memory it leaves matters
