"""agents/minibatch.py: orders are permutations, drawn alike; every row is used once an epoch."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.agents.parts import minibatch
from jaxrl.agents.ppo import Config
from jaxrl.core.means import Mean


@pytest.mark.parametrize("size", [1, 2, 5, 8, 513, 8192])
def test_shuffles_are_permutations(size):
    orders = np.asarray(jax.jit(minibatch.shuffles, static_argnums=(1, 2))(jax.random.key(size), 3, size))
    assert orders.dtype == np.int32 and orders.shape == (3, size)
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(size), (3, 1)))
    if size > 5:
        assert not np.array_equal(orders[0], orders[1])


def test_every_permutation_is_as_likely():
    """The 24 orders of four rows, 24,000 draws: chi-square."""
    orders = np.asarray(minibatch.shuffles(jax.random.key(0), 24_000, 4))
    counts = np.unique(orders @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24 and scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_each_step_draws_its_dropout_with_a_key_of_its_own(rate):
    """As many keys as steps in all epochs, none of them the one that the phase began with; without dropout none at all."""
    config = Config(num_envs=2, rollout_length=6, num_epochs=3, num_minibatches=4, dropout=rate)
    network, rows, key = types.SimpleNamespace(remembers=False), {"x": jnp.arange(12.0).reshape(6, 2)}, jax.random.key(0)

    def step(learner, drawn, key):
        count, keys = learner
        assert (key is None) == (rate == 0)
        return (count + 1, keys if key is None else keys.at[count].set(jax.random.key_data(key))), {"steps": Mean.of(count)}

    start = (jnp.int32(0), jnp.zeros((12, 2), jnp.uint32))
    (count, keys), _ = minibatch.descend(config, network, step, start, (), rows, key)
    assert count == 12 and len(np.unique(keys, axis=0)) == (12 if rate else 1)
    assert not (np.asarray(keys) == np.asarray(jax.random.key_data(key))).all(1).any() or not rate


def test_descend_uses_every_row_once_an_epoch():
    """A step that counts rows [T, N]; the minibatches' sums add up to all rows, three epochs long."""
    x, config = jnp.arange(12.0).reshape(6, 2), Config(num_envs=2, rollout_length=6, num_epochs=3, num_minibatches=4)
    rows, network = {"x": x, "pair": jnp.stack([x, -x], -1)}, types.SimpleNamespace(remembers=False)

    def step(counts, drawn, key):
        batch = drawn.rows
        assert batch["x"].shape == (3,) and batch["pair"].shape == (3, 2)
        counts = counts.at[batch["x"].astype(int)].add(1)
        return counts, {"sum": Mean.of(batch["x"]), "apart": Mean.of(jnp.abs(batch["pair"][:, 0] - batch["x"]))}

    counts, metrics = minibatch.descend(config, network, step, jnp.zeros(12), (), rows, jax.random.key(0))
    np.testing.assert_array_equal(counts, np.full(12, 3))
    np.testing.assert_allclose(metrics["sum"].value, 5.5)
    assert metrics["sum"].count == 36 and metrics["apart"].total == 0
