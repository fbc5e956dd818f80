"""MazeNavigation's generated mazes: a search in NumPy says what they are, and what splits and levels draw is counted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.envs import transforms
from jaxrl.envs.maze_navigation import MOVES, LevelState, make
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.sweeps import plan as plans
from tests.envs.test_maze_navigation import distances

SIZES = (5, 7, 11)
COUNT = 64
STEP = 0.002
MARGIN = 2
SPLITS = ("train", "validation", "test")
FIRST = {"train": (0, 2**29), "validation": (2**29, 2**30), "test": (2**30, 2**31 - 1)}


@functools.cache
def resets(size):
    """(keys [n], params [n]) -> states and observations, one program for every setting of the parameters."""
    return jax.jit(jax.vmap(make(size=size).reset))


def drawn(size, first=0, levels=0, count=COUNT, seed=0):
    """States and observations of `count` episodes, on the host."""
    params = make(size=size).params._replace(first_level=jnp.int32(first), num_levels=jnp.int32(levels))
    many = jax.tree.map(lambda x: jnp.full(COUNT, x), params)
    found = [resets(size)(jax.random.split(jax.random.key(seed + i), COUNT), many) for i in range(-(-count // COUNT))]
    return jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(found))


def inner(states):
    """Cells without the margin, bool [n, size, size, 3]."""
    return states.cells[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


@pytest.mark.parametrize("size", SIZES)
def test_every_maze_is_a_tree_of_its_rooms(size):
    """All rooms can be reached, and passages are one fewer than rooms: so none goes in a circle."""
    states, _ = drawn(size)
    rooms = (size // 2) ** 2
    assert states.cells.shape[1:] == (size + 2 * MARGIN, size + 2 * MARGIN, 3)
    assert states.cells[..., 0].sum() - inner(states)[..., 0].sum() == COUNT * ((size + 4) ** 2 - size**2)  # walls outside
    for free in ~inner(states)[..., 0]:
        assert free[1::2, 1::2].all() and not free[::2, ::2].any()
        assert not (free[0].any() or free[-1].any() or free[:, 0].any() or free[:, -1].any())
        assert free.sum() - rooms == rooms - 1
        np.testing.assert_array_equal(distances(free, (1, 1)) >= 0, free)


@pytest.mark.parametrize("size", SIZES)
def test_start_exits_and_paint(size):
    """Two dead ends are exits; the start is another room, beside a wall in the colour that is right."""
    states, _ = drawn(size)
    for cells, goal, position in zip(inner(states), states.goal, states.position, strict=True):
        free, start = ~cells[..., 0], tuple(position)
        (red,), (blue,) = (np.argwhere(free & cells[..., colour]) for colour in (1, 2))
        for place in (red, blue):
            assert (place % 2 == 1).all() and sum(free[tuple(place + move)] for move in MOVES) == 1
        assert free[start] and (position % 2 == 1).all() and not cells[start][1:].any()
        ((row, column, colour),) = np.argwhere(cells[..., 1:] & ~free[..., None])
        assert colour == goal and abs(row - start[0]) + abs(column - start[1]) == 1
        for place, other in ((red, blue), (blue, red)):
            without = free.copy()
            without[tuple(other)] = False
            assert distances(without, start)[tuple(place)] > 0


def test_of_four_rooms_every_maze_is_as_likely():
    """4 trees, 2 ways to colour the exits, 2 starts, 2 walls beside it, 2 right colours: 64 kinds of mazes, and no more."""
    states, _ = drawn(5, count=100 * COUNT)
    _, counts = np.unique(inner(states).reshape(100 * COUNT, -1), axis=0, return_counts=True)
    assert len(counts) == 64 and scipy.stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("first", "levels", "low", "high"),
    [(10, 5, 10, 15), (0, 1, 0, 1), (2**29 - 3, 20, 2**29 - 3, 2**29), (2**30 - 2, 0, 2**30 - 2, 2**30), (-5, 3, 0, 3)],
)
def test_all_levels_come_and_no_other(first, levels, low, high):
    """Those behind the last level of a split are none of it."""
    states, _ = drawn(7, first, levels, 4 * COUNT)
    assert set(states.level) == set(range(low, high))


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_draws_from_its_whole_range_alone(split):
    env = make(size=7)
    params = env.params._replace(num_levels=jnp.int32(20)) if split != "train" else env.params
    of_split = env.spec.splits(params, split)
    states, _ = drawn(7, int(of_split.first_level), int(of_split.num_levels), 8 * COUNT)
    low, high = FIRST[split]
    assert states.level.min() >= low and states.level.max() < high
    assert scipy.stats.kstest((states.level - low) / (high - low), "uniform").pvalue > 1e-4


def test_training_levels_are_the_parameters_as_they_are():
    env = make(size=7)
    params = env.params._replace(num_levels=jnp.int32(20), step_cost=jnp.float32(0.5))
    assert env.spec.splits(params, "train") is params
    for split in ("validation", "test"):
        found = env.spec.splits(params, split)
        assert found.step_cost == 0.5 and found.num_levels == 0 and found.first_level == FIRST[split][0]


def test_a_level_is_the_same_maze_whatever_the_key():
    many, _ = drawn(7, 0, 4, seed=0)
    more, _ = drawn(7, 0, 4, seed=1)
    assert not np.array_equal(many.level, more.level)
    whole = [np.concatenate([x[many.level == level], y[more.level == level]]) for level in range(4)
             for x, y in zip(many[1:], more[1:], strict=True)]  # fmt: skip
    assert all((each == each[:1]).all() for each in whole)


def test_mazes_of_different_levels_and_splits_differ():
    found = [drawn(11, *first_and_levels)[0] for first_and_levels in ((0, 0), (2**29, 0), (2**30, 0))]
    mazes = np.concatenate([inner(states).reshape(COUNT, -1) for states in found])
    assert len(np.unique(mazes, axis=0)) == 3 * COUNT


@functools.cache
def steps(size):
    return jax.jit(jax.vmap(make(size=size).step, (None, 0, 0, None)))


def play(states, choose, params, limit=121):
    """Returns and lengths [n] of the episodes that begin in `states` under `choose(t, states) -> actions`."""
    total, length, running = np.zeros(COUNT), np.zeros(COUNT, int), np.ones(COUNT, bool)
    for t in range(limit):
        states, out = steps(11)(jax.random.key(0), states, jnp.asarray(choose(t, states), jnp.int32), params)
        total += np.where(running, out.reward, 0)
        length += running
        running &= ~np.asarray(out.terminated | out.truncated)
    assert not running.any()
    return total, length, out


def test_a_search_that_remembers_the_colour_gets_the_best_return():
    """1 less the steps of the only way; the exit of the other colour gives what its parameter says."""
    env = make(size=11)
    states, obs = drawn(11)
    paint = (obs[..., :1] * obs[..., 1:]).sum((1, 2))
    np.testing.assert_array_equal(paint.sum(-1), 1)  # it is in the first view
    colour = paint.argmax(-1)
    for wanted, prize in ((colour, 1.0), (1 - colour, -0.1)):
        away = []
        for cells, c in zip(inner(states), wanted, strict=True):
            (place,) = np.argwhere(~cells[..., 0] & cells[..., 1 + c])
            away.append(distances(~cells[..., 0], tuple(place)))

        def nearer(t, now, away=away):
            place = np.asarray(now.position)
            return [min(range(4), key=lambda a: d[tuple(p + MOVES[a])] % 1000) for d, p in zip(away, place, strict=True)]

        far = np.array([d[tuple(p)] for d, p in zip(away, states.position, strict=True)])
        total, length, _ = play(jax.tree.map(jnp.asarray, states), nearer, env.params)
        np.testing.assert_array_equal(length, far)
        np.testing.assert_allclose(total, prize - STEP * far, atol=1e-5)


def test_the_view_is_the_cells_around_and_walls_and_the_time_limit_hold():
    """Steps into the paint stay where they are until the limit, which is no end of the task."""
    env = make(size=11)
    states, obs = drawn(11)
    for cells, place, seen in zip(states.cells, states.position, obs, strict=True):
        np.testing.assert_array_equal(seen, cells[place[0] : place[0] + 5, place[1] : place[1] + 5])
    painted = [np.argwhere(o[..., 0] * o[..., 1:].any(-1))[0] - 2 for o in obs]
    into = [MOVES.index(tuple(p.tolist())) for p in painted]
    short = env.params._replace(max_steps_in_episode=jnp.int32(3))
    total, length, out = play(jax.tree.map(jnp.asarray, states), lambda t, _: into, short, limit=3)
    assert (length == 3).all() and out.truncated.all() and not out.terminated.any()
    np.testing.assert_allclose(total, -3 * STEP, rtol=1e-5)
    np.testing.assert_array_equal(out.obs, obs)


def test_the_spec_is_the_same_at_every_size_but_for_the_levels():
    drawings, small, large = make(), make(size=7), make(size=11)
    assert small.spec == large.spec and drawings.spec == dataclasses.replace(small.spec, splits=None)
    assert jax.tree.structure(small.params) == jax.tree.structure(large.params)
    assert (small.params.max_steps_in_episode, large.params.max_steps_in_episode) == (100, 121)
    assert transforms.sticky_actions(small).spec.splits is small.spec.splits
    assert "for train, validation, test" in str(jaxrl.check_env("MazeNavigation", env_kwargs={"size": 5}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"size": 6}, "^size = 6 must be 0, or odd and at least 5$"),
        ({"size": 3}, "^size = 3 must be 0, or odd and at least 5$"),
        ({"size": -7}, "size"),
        ({"size": 7, "turned": True}, "^turned is of the drawings: leave it, or size$"),
    ],
)
def test_bad_sizes_are_one_line(words, message):
    with pytest.raises(InputError, match=message):
        make(**words)


def test_the_drawing_shows_the_agent_and_the_exits():
    states, _ = drawn(7)
    state = LevelState(*(x[0] for x in states))
    frame = make(size=7).spec.render(state, None)
    assert frame.dtype == np.uint8 and frame.shape == (24 + 9 * 32, 9 * 32, 3)

    def middle(row, column):  # a border of one cell, and the margin
        return tuple(frame[24 + 32 * (row + 1) + 16, 32 * (column + 1) + 16])

    assert middle(*state.position) == (237, 174, 73)
    cells = inner(states)[0]
    for colour, shades in ((1, {(209, 73, 91), (125, 43, 54)}), (2, {(46, 134, 171), (27, 80, 102)})):  # in sight, or not
        (exit_,) = np.argwhere(~cells[..., 0] & cells[..., colour])
        assert middle(*exit_) in shades


def test_a_sweep_over_the_number_of_levels_is_one_program():
    base = Experiment("ppo", "MazeNavigation", env_kwargs={"size": 7}, total_steps=1000)
    configurations, asked = search_space.configurations(base, {"env.num_levels": [20, 200, 2000]}, {}, 0, 0)
    plan = plans.make(base, configurations, 1, 0, asked, fit=False)
    assert plan.programs == 1 and [c["env.num_levels"] for c in plan.configurations] == [20, 200, 2000]
