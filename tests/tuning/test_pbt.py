"""pbt.py: selection, perturbation and inheritance by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.types import State
from jaxrl.experiment.search_space import Span
from jaxrl.tuning import pbt
from jaxrl.tuning.pbt import Round
from tests.small import assert_trees_equal, small_config

SCORES = jnp.array([5.0, 1.0, 3.0, 2.0, 4.0, 0.0, 9.0, 8.0, 7.0, 6.0])
NONE = jnp.zeros(10, bool)
select = jax.jit(pbt.selection)


def test_the_worst_fifth_goes_on_from_the_best_fifth():
    """Of ten, members 5 and 1 (scores 0 and 1) from 6 or 7 (9 and 8), each as likely; the others from themselves."""
    parents = np.stack([select(SCORES, NONE, jax.random.key(k)) for k in range(200)])
    kept = [i for i in range(10) if i not in (1, 5)]
    np.testing.assert_array_equal(parents[:, kept], np.tile(kept, (200, 1)))
    assert set(np.unique(parents[:, [1, 5]])) == {6, 7}
    assert 0.4 < (parents[:, [1, 5]] == 6).mean() < 0.6
    assert (parents[:, 1] != parents[:, 5]).any()


@pytest.mark.parametrize(
    ("scores", "diverged", "parents"),
    [
        ([1.0, 2.0], [], [1, 1]),  # one at least
        ([0.0, -np.inf, 1.0, 3.0, 2.0], [], [0, 3, 2, 3, 4]),  # no episode ended in it: worse than any score
        ([3.0, 3.0, 3.0, 3.0, 3.0], [], [0, 1, 2, 3, 0]),  # of equals the later one, from the first
        ([0.0, 1.0, 2.0, 9.0, 3.0], [3], [0, 1, 2, 4, 4]),  # what diverged, whatever its score
        ([0.0, 9.0, 2.0, 9.0, 9.0], [1, 3, 4], [0, 2, 2, 2, 2]),  # more than the worst fifth; the others stay
        ([-np.inf, 1.0, 2.0, 3.0, 4.0], [1, 2, 3, 4], [0, 0, 0, 0, 0]),  # one is left
    ],
)
def test_who_is_replaced_and_by_whom(scores, diverged, parents):
    lost = np.isin(np.arange(len(scores)), diverged)
    found = select(jnp.array(scores), jnp.array(lost), jax.random.key(0))
    np.testing.assert_array_equal(found, parents)


def test_nobody_goes_on_from_one_that_diverged():
    """Of ten the best, 6, diverged: it and the worst, 5, go on from 7 or 8, the best two that are left."""
    lost = NONE.at[6].set(True)
    parents = np.stack([select(SCORES, lost, jax.random.key(k)) for k in range(100)])
    changed = np.flatnonzero((parents != np.arange(10)).any(0))
    np.testing.assert_array_equal(changed, [5, 6])
    assert set(np.unique(parents[:, changed])) == {7, 8}


def test_perturbation_is_by_a_fifth_each_way_within_the_range():
    """In log ranges 1 becomes 0.8 or 1.2, 10 of at most 11 becomes 8 or 11; in [0, 5] 4.75 becomes 4.25 or 5.

    Independently for each member and setting.
    """
    values = {"a": jnp.ones(400), "b": jnp.full(400, 10.0), "c": jnp.full(400, 4.75)}
    spans = {"a": Span(0.1, 5.0, True), "b": Span(0.1, 11.0, True), "c": Span(0.0, 5.0)}
    found = pbt.perturbed(values, spans, jax.random.key(0))
    np.testing.assert_allclose(np.unique(found["a"]), [0.8, 1.2], rtol=1e-6)
    np.testing.assert_allclose(np.unique(found["b"]), [8.0, 11.0], rtol=1e-6)
    np.testing.assert_allclose(np.unique(found["c"]), [4.25, 5.0], rtol=1e-6)
    up = np.stack([found["a"] > 1, found["b"] > 10])
    assert 0.4 < up.mean() < 0.6 and 0.4 < (up[0] == up[1]).mean() < 0.6


PRIORITIZED = [("dqn", {"prioritized": True, "n_step": 3}), ("r2d2", {}), ("n_step_sarsa", {})]


@pytest.mark.parametrize(("agent", "config"), PRIORITIZED, ids=["dqn", "r2d2", "n_step_sarsa"])
def test_what_is_inherited_and_what_stays_the_members_own(agent, config):
    """A member that is replaced takes all that its parent learnt; replay, priorities, keys, environments and memory stay."""
    env = "RandomGame" if agent == "n_step_sarsa" else "CartPole-v1"
    trainer = jaxrl.make_trainer(agent, env, total_steps=600, config=small_config(agent) | config, preset="none")
    keys = jax.vmap(jax.random.key)(jnp.arange(5))

    def trained(key):
        return jax.lax.fori_loop(0, 5, lambda _, s: trainer.step(s)[0], trainer.init(key))

    before = jax.jit(jax.vmap(trained))(keys)
    rates = jnp.array([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])
    before = before._replace(hparams=type(before.hparams)(**{**vars(before.hparams), "learning_rate": rates}))
    after, parent = pbt.exploit_and_explore(
        before,
        jnp.array([1.0, 5.0, 2.0, 0.0, 3.0]),
        jnp.zeros(5, bool),
        {"learning_rate": Span(1e-6, 1.0, True)},
        jax.random.key(0),
    )
    np.testing.assert_array_equal(parent, [0, 1, 2, 1, 4])
    assert_trees_equal(after.agent.learner, jax.tree.map(lambda x: x[parent], before.agent.learner))
    assert_trees_equal(after.agent.experience, before.agent.experience)
    for part in after.agent.experience if agent != "n_step_sarsa" else [after.agent.experience]:
        assert any(not np.array_equal(x[3], x[1]) for x in jax.tree.leaves(part))  # replay, and its priorities
    for name in ("key", "iteration", "env", "obs", "first", "memory", "episode", "env_params"):
        assert_trees_equal(getattr(after, name), getattr(before, name))
    kept = np.array([0, 1, 2, 4])
    np.testing.assert_array_equal(after.hparams.learning_rate[kept], rates[kept])
    assert np.isclose(after.hparams.learning_rate[3], [1.6e-4, 2.4e-4]).any()
    np.testing.assert_array_equal(after.hparams.gamma, before.hparams.gamma)


def test_experience_is_the_members_own_however_deep_it_lies():
    """A state around the agent's (normalised observations) is learnt, the experience in it is not."""
    deep = {"inner": State(jnp.arange(3), jnp.arange(3)), "moments": jnp.arange(3)}
    found = pbt.inherited(deep, jnp.array([2, 1, 2]))
    assert_trees_equal(found, {"inner": State(np.array([2, 1, 2]), np.arange(3)), "moments": np.array([2, 1, 2])})


def test_a_lineage_by_hand():
    """After round 0 member 2 goes on from 0, after round 1 member 0 from 2: its learning was 0's, then 2's."""
    parent, rate = np.array([[0, 1, 0], [2, 1, 2]]), np.array([[1.0, 2, 8], [6, 2, 8]])
    rounds = Round(np.zeros((2, 3)), np.zeros((2, 3), bool), parent, {"rate": rate})
    np.testing.assert_array_equal(pbt.lineage(rounds, 0), [0, 2])
    assert pbt.schedule({"rate": np.array([1.0, 2, 3])}, rounds, 0) == {"rate": [1.0, 8.0]}
