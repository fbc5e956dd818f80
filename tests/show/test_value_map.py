"""value_map.py: the printed table and the pictures, from tables of values made up here."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxrl
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import EnvSpec, Grid
from jaxrl.experiment import registry
from jaxrl.show import tiles, value_map

MOVES = ((-1, 0), (0, 1))  # up, right
GRID = EnvSpec("Small", Discrete(4), Discrete(2), grid=Grid(2, 2, MOVES, "S HG"))
PLAIN = EnvSpec("Plain", Discrete(4), Discrete(2))
UNLIKE = [[np.inf, 1.0], [-np.inf, 0.0], [np.nan, 2.0], [1e30, -1e30]]  # a diverged member's
Q = np.array([[1.0, 2.0], [0.5, 0.5], [-3.25, -4.0], [0.0, 1e-5]], np.float32)


def test_table_on_a_grid():
    assert value_map.text(GRID, Q).splitlines() == [
        " state  row  column     up   right ",
        "     0    0       0      1       2*",
        "     1    0       1    0.5*    0.5*",
        "     2    1       0  -3.25*     -4 ",
        "     3    1       1      0   1e-05*",
    ]


def test_table_without_a_grid():
    assert value_map.text(PLAIN, Q).splitlines()[:2] == [
        " state  action 0   action 1 ",
        "     0         1          2*",
    ]


def test_a_long_table_says_what_it_leaves_out():
    spec = EnvSpec("Long", Discrete(3000), Discrete(2))
    lines = value_map.text(spec, np.zeros((3000, 2), np.float32)).splitlines()
    assert len(lines) == 66 and lines[-1] == "... 2,936 more of 3,000 states left out"


def test_ties_within_rounding_are_ties():
    q = np.float32([[-9.0, np.nextafter(np.float32(-9), np.float32(0)), -9.01], [0, 0, 0], [1, 2, np.nan]])
    np.testing.assert_array_equal(value_map.greedy(q[:2]), [[True, True, False], [True, True, True]])


def pixels(path, spec, q):
    value_map.picture(spec, q, path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_picture_shows_values_arrows_and_ends(tmp_path):
    """Another value, another best action or another tile is another picture; a cell without preference is grey."""
    base = pixels(tmp_path / "a.png", GRID, Q)
    grey = (base == [0xD5, 0xD9, 0xDE]).all(-1)
    assert grey.mean() > 0.05  # cell 1, in the upper right: nothing below, nor at the left
    assert not grey[int(0.7 * len(grey)) :].any() and not grey[:, : grey.shape[1] // 4].any()
    turned = pixels(tmp_path / "b.png", GRID, Q[:, ::-1])
    tile = EnvSpec("Small", Discrete(4), Discrete(2), grid=Grid(2, 2, MOVES, "F HG"))
    lettered = pixels(tmp_path / "c.png", tile, Q)
    higher = pixels(tmp_path / "d.png", GRID, Q + np.float32([[0], [0], [5], [0]]))
    for other in (turned, lettered, higher):
        assert other.shape != base.shape or (other != base).any()


@pytest.mark.parametrize("spec", [GRID, PLAIN])
@pytest.mark.parametrize("q", [np.zeros((4, 2)), np.full((4, 2), np.nan), Q * 1e30, np.full((4, 2), np.inf), UNLIKE])
def test_untrained_and_diverged_tables_are_drawn_too(spec, q, tmp_path):
    assert pixels(tmp_path / "a.png", spec, np.float32(q)).std() > 0
    assert len(value_map.text(spec, np.float32(q)).splitlines()) == 5


@pytest.mark.parametrize(("states", "actions"), [(1, 10), (10, 3), (500, 6)])
def test_sizes_of_tables_without_a_grid(states, actions, tmp_path):
    spec = EnvSpec("Any", Discrete(states), Discrete(actions))
    q = np.random.default_rng(0).normal(size=(states, actions)).astype(np.float32)
    height, width, _ = pixels(tmp_path / "a.png", spec, q).shape
    assert 200 < height < 1500 and 400 < width < 1800


@pytest.mark.parametrize(
    ("kwargs", "side", "holes"),
    [
        # as Gymnasium's documentation prints them
        ({}, 4, 4),
        ({"map_name": "8x8"}, 8, 10),
        ({"desc": ("SH", "FG")}, 2, 1),
    ],
)
def test_frozen_lake_knows_its_grid(kwargs, side, holes):
    grid = registry.find_env("FrozenLake-misc", kwargs).spec.grid
    assert (grid.rows, grid.columns, grid.tiles[0], grid.tiles[-1]) == (side, side, "S", "G")
    assert grid.tiles.count("H") == holes and len(grid.tiles) == side**2
    assert tiles.action_names(grid, 4) == ["left", "down", "right", "up"]


def test_q_table_is_read_where_there_is_one():
    trainer = jaxrl.make_trainer("q_learning", "RandomGame", total_steps=500, hparams={"initial_value": 2.5})
    state = trainer.init(jnp.array([0, 1], jnp.uint32))
    np.testing.assert_array_equal(value_map.q_table(trainer, state), np.full((10, 3), 2.5))
    for agent, env in (("reinforce", "RandomGame"), ("dqn", "CartPole-v1")):  # no action values; no discrete states
        other = jaxrl.make_trainer(agent, env, total_steps=20_000, preset="none")
        assert value_map.q_table(other, None) is None
