"""envs/maze_navigation.py: dynamics by hand, what the mazes keep, and what remembering a colour is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.envs.maze_navigation import MAZES, MOVES, Params, State, make

UP, RIGHT, DOWN, LEFT = range(4)
COUNT = 192  # 4 turns, 6 drawings, mirrored or not, which exit is red, which is right
UPRIGHT = 48
STEP = -0.002
PATHS = STEP * np.mean([8, 6, 10, 6, 8, 11])  # from the start to an exit in each drawing, by hand


@pytest.mark.parametrize(
    ("maze", "position", "action", "following", "reward", "terminated"),
    [
        (0, (7, 4), UP, (6, 4), STEP, False),
        (0, (7, 4), LEFT, (7, 4), STEP, False),
        (0, (7, 4), DOWN, (7, 4), STEP, False),  # the painted wall is a wall
        (0, (1, 4), RIGHT, (1, 5), STEP, False),
        (0, (1, 3), LEFT, (1, 2), 1 + STEP, True),  # A is red, and red is right
        (0, (1, 5), RIGHT, (1, 6), -1 + STEP, True),
        (1, (1, 3), LEFT, (1, 2), -1 + STEP, True),  # A is red, and blue is right
        (1, (1, 5), RIGHT, (1, 6), 1 + STEP, True),
        (2, (1, 3), LEFT, (1, 2), -1 + STEP, True),  # A is blue, and red is right
        (3, (1, 3), LEFT, (1, 2), 1 + STEP, True),
        (4, (1, 3), LEFT, (1, 2), -1 + STEP, True),  # mirrored
        (4, (1, 5), RIGHT, (1, 6), 1 + STEP, True),
        (48, (4, 2), LEFT, (4, 1), STEP, False),  # turned by a quarter, anticlockwise
        (48, (5, 1), DOWN, (6, 1), 1 + STEP, True),
    ],
)
@pytest.mark.parametrize("time", [0, 6])
def test_step(maze, position, action, following, reward, terminated, time):
    state = State(jnp.int32(maze), jnp.int32(position), jnp.int32(time))
    params = Params(jnp.float32(-STEP), jnp.float32(-1), jnp.int32(7))
    after, out = make().step(jax.random.key(0), state, jnp.int32(action), params)
    assert (after.maze, tuple(after.position), after.time) == (maze, following, time + 1)
    np.testing.assert_allclose(out.reward, reward, atol=1e-7)
    assert (bool(out.terminated), bool(out.truncated)) == (terminated, time == 6)


def test_the_view_is_the_cells_around():
    env = make()
    _, out = env.step(jax.random.key(0), State(jnp.int32(1), jnp.int32([6, 4]), jnp.int32(0)), jnp.int32(DOWN), env.params)
    floor, paint = np.zeros((5, 5)), np.zeros((5, 5))
    floor[:3, 2] = 1  # the corridor up from the start
    paint[3, 2] = 1  # below it
    np.testing.assert_array_equal(out.obs, np.stack([1 - floor, 0 * paint, paint], -1))
    arm = State(jnp.int32(0), jnp.int32([1, 3]), jnp.int32(0))
    _, out = env.step(jax.random.key(0), arm, jnp.int32(LEFT), env.params)
    floor, red = np.zeros((5, 5)), np.zeros((5, 5))
    floor[2, 2:] = floor[3:, 4] = 1  # the arm, from its end to the middle, and the corridor down
    red[2, 2] = 1  # where it stands; one row of the window is outside
    np.testing.assert_array_equal(out.obs, np.stack([1 - floor, red, 0 * red], -1))


@pytest.mark.parametrize(("turned", "count"), [(False, UPRIGHT), (True, COUNT)])
def test_episodes_begin_at_the_start_of_any_maze(turned, count):
    env = make(turned)
    state, _ = jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(jax.random.key(0), 20_000), env.params)
    assert scipy.stats.chisquare(np.bincount(state.maze, minlength=count)).pvalue > 1e-4
    np.testing.assert_array_equal(state.position, MAZES.start[state.maze])
    np.testing.assert_array_equal(state.time, 0)
    assert {tuple(start) for start in MAZES.start[:8]} == {(7, 4)}
    assert (np.asarray(state.position)[:, 0] == 7).all() is np.bool_(not turned)
    np.testing.assert_array_equal(MAZES.goal, np.arange(COUNT) % 2)


def distances(free, start):
    """Steps from `start` to every cell of `free` [13, 13]; -1 where there is no way."""
    found = np.full(free.shape, -1)
    found[start], border = 0, [start]
    while border:
        place, *border = border
        for down, right in MOVES:
            following = (place[0] + down, place[1] + right)
            if free[following] and found[following] < 0:
                found[following] = found[place] + 1
                border.append(following)
    return found


def parts(maze):
    """Free cells, cells of an exit, and cells from which the paint is in sight, bool [13, 13], and the start."""
    cells = MAZES.cells[maze]
    free, coloured = ~cells[..., 0], cells[..., 1:].any(-1)
    (paint,) = np.argwhere(~free & coloured)
    sight = np.abs(np.indices(free.shape) - paint[:, None, None]).max(0) <= 2
    return free, free & coloured, free & sight, tuple(MAZES.start[maze] + 2)


def test_the_paint_is_out_of_sight_when_it_is_needed():
    """Some cell, from which it is not seen, lies between the start and both exits, and beyond it no cell sees it."""

    def parts_them(cell, free, exits, sight, start):
        without = free.copy()
        without[tuple(cell)] = False
        before = distances(without, start) >= 0
        return not (before & exits).any() and not (without & ~before & sight).any()

    for maze in range(COUNT):
        free, exits, sight, start = parts(maze)
        assert exits.sum() == 2 and sight[start] and (distances(free, start)[exits] > 0).all(), maze
        candidates = np.argwhere(free & ~sight & ~exits)
        assert any(parts_them(cell, free, exits, sight, start) for cell in candidates), maze


def test_mazes_come_in_pairs_that_differ_in_the_paint_alone():
    red, blue = MAZES.cells[::2], MAZES.cells[1::2]
    np.testing.assert_array_equal(MAZES.start[::2], MAZES.start[1::2])
    np.testing.assert_array_equal(red[..., 0], blue[..., 0])
    differ = red != blue
    assert (differ.sum((1, 2, 3)) == 2).all()  # one colour is off, the other one on
    assert (differ.any(-1) <= red[..., 0]).all()  # on a wall


def play(choose, mazes=UPRIGHT):
    """Returns [mazes] of one episode in each of the first mazes under `choose(t, obs [mazes]) -> action`, in NumPy."""
    env = make()
    states = State(jnp.arange(mazes), jnp.asarray(MAZES.start[:mazes]), jnp.zeros(mazes, jnp.int32))
    step = jax.jit(jax.vmap(env.step, (None, 0, 0, None)))
    obs = np.stack([seen(maze, *MAZES.start[maze]) for maze in range(mazes)])
    total, running = np.zeros(mazes), np.ones(mazes, bool)
    for t in range(100):
        states, out = step(jax.random.key(0), states, jnp.asarray(choose(t, obs), jnp.int32), env.params)
        total += np.where(running, out.reward, 0)
        running &= ~np.asarray(out.terminated | out.truncated)
        obs = np.asarray(out.obs) > 0
    assert not running.any()
    return total


def seen(maze, row, column):
    return MAZES.cells[maze, row : row + 5, column : column + 5]


def ways():
    """The actions that lead nearer to the exit of a colour in every upright maze, by what is seen and the colour."""
    found = {}
    for maze, colour in np.ndindex(UPRIGHT, 2):
        free, exits, _, _ = parts(maze)
        away = distances(free, tuple(np.argwhere(exits & MAZES.cells[maze, ..., 1 + colour])[0]))
        for cell in map(tuple, np.argwhere(free & ~exits)):
            ahead = [away[cell[0] + down, cell[1] + right] for down, right in MOVES]
            nearer = {a for a in range(4) if ahead[a] == away[cell] - 1}
            key = (seen(maze, cell[0] - 2, cell[1] - 2).tobytes(), colour)
            found[key] = found.get(key, nearer) & nearer
    return found


def painted(obs):
    """The colour of the paint in `obs` [N, 5, 5, 3]; -1 where there is none."""
    paint = (obs[..., :1] & obs[..., 1:]).any((1, 2))
    return np.where(paint.any(-1), paint.argmax(-1), -1)


def test_the_view_and_the_colour_tell_the_way():
    """So one bit of memory is enough, and without it half of the episodes end at the right exit: 0.984 and 0.434."""
    way = ways()
    assert all(way.values())
    colour = np.zeros(UPRIGHT, int)

    def remembering(t, obs):
        colour[:] = painted(obs) if t == 0 else colour
        return [min(way.get((o.tobytes(), c), {0})) for o, c in zip(obs, colour, strict=True)]

    def without(t, obs):
        return [min(way.get((o.tobytes(), 0), {0})) for o in obs]

    np.testing.assert_allclose(play(remembering).mean(), 1 + PATHS, rtol=1e-6)
    half = play(without)
    np.testing.assert_allclose([(half > 0.5).mean(), half.mean()], [0.5, (1 - 0.1) / 2 + PATHS], rtol=1e-6)


def test_staying_after_one_colour_is_worse_than_a_guess():
    """Leaves for the red exit where red is painted, and steps into the paint until the time limit where blue is: 0.39."""
    way = ways()

    def choose(t, obs):
        return [DOWN if c == 1 else min(way.get((o.tobytes(), 0), {0})) for o, c in zip(obs, painted(obs), strict=True)]

    np.testing.assert_allclose(play(choose).mean(), (1 + PATHS + 100 * STEP) / 2, rtol=1e-5)


def test_in_turned_mazes_a_wall_follower_that_remembers_the_colour_finds_the_way():
    """It keeps its right hand on the wall, for which it takes the exit of the other colour too. Found: 0.976."""
    heading, shunned = np.zeros(COUNT, int), np.zeros(COUNT, int)

    def turn(shut, heading):
        order = [(heading + turn) % 4 for turn in (1, 0, 3, 2)]
        return next(a for a in order if not shut[2 + MOVES[a][0], 2 + MOVES[a][1]])

    def choose(t, obs):
        shunned[:] = 1 - painted(obs) if t == 0 else shunned
        shut = obs[..., 0] | obs[np.arange(COUNT), ..., 1 + shunned]
        heading[:] = [turn(*pair) for pair in zip(shut, heading, strict=True)]
        return heading

    total = play(choose, COUNT)
    assert (total > 0.5).all() and 0.95 < total.mean() < 0.984


def test_random_actions_rarely_find_the_right_exit():
    """Found in 3,840 episodes: the right exit in 26 % of them, and a return of 0.09."""
    rng = np.random.default_rng(0)
    total = np.concatenate([play(lambda t, obs: rng.integers(4, size=UPRIGHT)) for _ in range(20)])
    assert 0.2 < (total > 0.5).mean() < 0.32 and 0 < total.mean() < 0.18


def test_the_drawing_shows_the_agent_and_the_colours():
    frame = make().spec.render(State(np.int32(0), np.array([7, 4], np.int32), np.int32(0)), None)
    assert frame.dtype == np.uint8 and frame.shape == (24 + 11 * 32, 11 * 32, 3)

    def middle(row, column):  # a border of one cell, and the margin
        return tuple(frame[24 + 32 * (row + 1) + 16, 32 * (column + 1) + 16])

    assert middle(7, 4) == (237, 174, 73) and middle(8, 4) == (209, 73, 91)
    assert middle(1, 2) == (125, 43, 54) and middle(1, 6) == (27, 80, 102)  # out of sight
    assert middle(0, 0) == (72, 75, 81) and middle(5, 4) == (240, 240, 240)
    assert tuple(frame[24 + 32 * 9 + 3, 32 * 5 + 16]) == (120, 125, 135)  # paint does not fill its wall
