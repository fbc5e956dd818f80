"""envs/cliff_walking.py: dynamics by hand, and the paths that example 6.6 of Sutton & Barto tells of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from benchmarks.oracles import value_iteration
from jaxrl.envs.cliff_walking import Params, State, make
from jaxrl.experiment import presets

UP, RIGHT, DOWN, LEFT = range(4)


@pytest.mark.parametrize(
    ("cell", "time", "action", "following", "reward", "terminated", "truncated"),
    [
        (36, 0, UP, 24, -1.0, False, False),
        (36, 0, RIGHT, 36, -100.0, False, False),  # over the edge, and back
        (36, 0, DOWN, 36, -1.0, False, False),  # against the wall
        (36, 0, LEFT, 36, -1.0, False, False),
        (25, 0, DOWN, 36, -100.0, False, False),  # from the edge's first cell and its last
        (34, 0, DOWN, 36, -100.0, False, False),
        (24, 0, DOWN, 36, -1.0, False, False),  # into the start
        (35, 0, DOWN, 47, -1.0, True, False),  # into the goal
        (35, 6, DOWN, 47, -1.0, True, True),  # at the seventh step of seven
        (25, 6, DOWN, 36, -100.0, False, True),
        (0, 0, UP, 0, -1.0, False, False),
        (0, 0, LEFT, 0, -1.0, False, False),
        (11, 0, RIGHT, 11, -1.0, False, False),
        (17, 5, LEFT, 16, -1.0, False, False),
        (12, 0, LEFT, 12, -1.0, False, False),  # a row does not go on in the one above
    ],
)
def test_step(cell, time, action, following, reward, terminated, truncated):
    after, out = make().step(jax.random.key(0), State(jnp.int32(cell), jnp.int32(time)), jnp.int32(action), Params(7))
    assert after == (following, time + 1)
    assert out[:4] == (following, reward, terminated, truncated)


def test_reset_is_the_lower_left_corner():
    env = make()
    assert env.reset(jax.random.key(0), env.params) == ((36, 0), 36)


def test_the_grid_says_what_the_dynamics_do():
    grid = make().spec.grid
    assert (grid.rows, grid.columns, grid.moves) == (4, 12, ((-1, 0), (0, 1), (1, 0), (0, -1)))
    assert grid.tiles[36:] == "SCCCCCCCCCCG" and not grid.tiles[:36].strip()


def test_the_shortest_path_takes_thirteen_steps():
    """Value iteration over the environment's own steps: up, eleven to the right, down."""
    env = make()
    s, a = map(jnp.array, np.divmod(np.arange(48 * 4), 4))
    _, out = jax.vmap(env.step, (None, 0, 0, None))(jax.random.key(0), State(s, jnp.zeros_like(s)), a, env.params)
    probability = np.eye(48)[out.obs] * ~np.asarray(out.terminated)[:, None]
    q = value_iteration(probability.reshape(48, 4, 48), np.asarray(out.reward).reshape(48, 4), 1.0)
    assert (q[36].max(), q[36].argmax(), q[24].max(), q[24].argmax()) == (-13, UP, -12, RIGHT)
    assert q[36, RIGHT] == -113


def greedy_returns(agent, **hparams):
    """Returns of eight seeds' greedy episodes with the book's ε = 0.1, γ = 1."""
    hparams = {"learning_rate": 0.5, "gamma": 1.0, "epsilon_start": 0.1, "epsilon_end": 0.1} | hparams
    trainer = jaxrl.make_trainer(agent, "CliffWalking", total_steps=40_000, hparams=hparams, preset="none")
    states, _ = jax.jit(jax.vmap(trainer.train))(jax.vmap(jax.random.key)(jnp.arange(8)))
    one = jax.vmap(lambda state: jaxrl.evaluate(trainer, state, jax.random.key(0), 1).returns[0])
    return np.asarray(one(states))


def test_q_learning_walks_along_the_cliff_and_sarsa_keeps_away():
    """The book's finding. A falling step size quiets SARSA's values, which its own policy's falls keep stirring."""
    np.testing.assert_array_equal(greedy_returns("q_learning"), -13)
    safe = greedy_returns("sarsa", learning_rate_decay=0.5)
    assert np.median(safe) in (-15, -17) and (safe < -13).all()  # one or two rows further up


@pytest.mark.parametrize(("agent", "name"), [("q_learning", None), ("sarsa", "CliffWalking-book")])
def test_the_presets_are_the_books(agent, name):
    _, preset = presets.find_preset(agent, "CliffWalking", name)
    wanted = {"learning_rate": 0.5, "gamma": 1.0, "epsilon_start": 0.1, "epsilon_end": 0.1}
    assert wanted.items() <= preset.items() and "learning_rate_decay" not in preset
