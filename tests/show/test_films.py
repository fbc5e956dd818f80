"""Films: an episode from its first observation to the one that ended it, drawn smoothly, with a caption."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import jaxrl
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import EnvSpec, Grid
from jaxrl.show import drawings, render, tiles
from jaxrl.show.drawings import HEIGHT, WIDTH
from jaxrl.show.render import CAPTION, HELD

ACCENT = (0xD1, 0x49, 0x5B)
CORRIDOR = Grid(1, 4, ((0, -1), (0, 1)), "S HG")


def near(image, colour):
    """Where (rows, columns) an image has a colour, about."""
    return np.nonzero((np.abs(np.asarray(image).astype(int) - colour) < 6).all(-1))


def trained(env, agent="q_learning"):
    trainer = jaxrl.make_trainer(agent, env, total_steps=20_000, preset="none")
    return trainer, jax.jit(trainer.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def lake():
    trainer, state = trained("FrozenLake-misc")
    return trainer, state, render.record(trainer, state, jax.random.key(3), 60)


def test_a_recording_ends_with_what_ended_the_episode(lake):
    trainer, state, episode = lake
    tile = trainer.env.spec.grid.tiles
    length = len(episode.rewards)
    assert len(episode.obs) == length + 1 == len(episode.actions) + 1
    assert episode.end == "terminated" and tile[episode.obs[-1]] in "HG"
    assert all(tile[cell] in "SF" for cell in episode.obs[:-1]) and episode.rewards.sum() == (tile[episode.obs[-1]] == "G")


def test_an_episode_that_is_not_over_says_so():
    trainer, state = trained("CliffWalking")
    assert render.record(trainer, state, jax.random.key(0), 3).end == "goes on"


def test_a_film_shows_step_return_and_action_and_holds_its_end(lake, monkeypatch, tmp_path):
    trainer, state, episode = lake
    told = []
    monkeypatch.setattr(render, "record", lambda *args: episode)
    kept = render._captioned
    monkeypatch.setattr(render, "_captioned", lambda *args: (told.append(args[2]), kept(*args))[1])
    render.policy_gif(trainer, state, jax.random.key(3), tmp_path / "a.gif")
    length, names = len(episode.rewards), ("left", "down", "right", "up")
    assert [facts[0] for facts in told] == [f"step {i} of {length}" for i in range(length + 1)]
    assert [facts[2] for facts in told] == [*(names[a] for a in episode.actions), "terminated"]
    with Image.open(tmp_path / "a.gif") as film:
        assert film.size == (WIDTH, CAPTION + HEIGHT)
        film.seek(film.n_frames - 1)
        assert film.info["duration"] == HELD


def test_a_long_episode_is_thinned_and_keeps_its_ends(lake, monkeypatch):
    trainer, state, episode = lake
    monkeypatch.setattr(render, "record", lambda *args: episode)
    film = render.film(trainer, state, jax.random.key(3), 3)
    assert len(film.frames) == len(film.durations) == 3 and film.durations[-1] == HELD


def test_a_walker_stands_on_its_tile():
    spec = EnvSpec("Corridor", Discrete(4), Discrete(2), grid=CORRIDOR)
    paint = drawings.choose(spec, SimpleNamespace(), np.arange(4))
    for cell in range(4):
        image = paint(SimpleNamespace(), np.int32(cell), None)
        _, x = near(image, ACCENT)
        assert abs(x.mean() - (cell + 0.5) * image.width / 4) < 1
    shown = paint(SimpleNamespace(), np.int32(0), None)
    side = shown.width // 4
    assert near(shown, (0x27, 0x45, 0x5C))[1].mean() // side == 2  # the hole's disc
    assert near(shown, (0x66, 0xA1, 0x82))[1].min() // side == 3  # the goal


def test_a_maze_is_drawn_from_its_state():
    """As gymnax' FourRooms has it: the walker at (4, 1), the goal at (8, 9), in 13 x 13 cells with walls around."""
    trainer, state = trained("FourRooms-misc", "dqn")
    env = trainer.env
    start, obs = env.reset(jax.random.key(0), env.params)
    image = drawings.choose(env.spec, start, obs[None])(start, obs, env.params)
    side = image.width / 13
    assert image.width == image.height and env.spec.grid.tiles[:13] == "W" * 13 and env.spec.grid.tiles[14:19] == " " * 5
    for colour, place in ((ACCENT, start.pos), ((0x66, 0xA1, 0x82), start.goal)):
        rows, columns = near(image, colour)
        np.testing.assert_allclose([rows.mean() / side - 0.5, columns.mean() / side - 0.5], place, atol=0.1)


def test_edges_are_smooth():
    canvas = drawings.Canvas()
    canvas.line([(50, 50), (150, 130)], drawings.ACCENT, 8)
    assert len(np.unique(np.asarray(canvas.image).reshape(-1, 3), axis=0)) > 5  # more than ink and paper


def test_bars_are_each_by_its_own_largest_number():
    spec = EnvSpec("Vector", Box((2,), -np.inf, np.inf), Discrete(2))
    seen = np.array([[1.0, -1000.0], [0.5, 500.0]])
    image = drawings.choose(spec, SimpleNamespace(), seen)(None, seen[1], None)
    rows, columns = near(image, (0x2E, 0x86, 0xAB))
    left, right = (np.ptp(rows[np.abs(columns - x) < 50]) for x in (106, 294))
    assert left == right == pytest.approx(95 / 2, abs=2)


def test_parts_of_an_observation_are_in_their_order_each_below_its_name():
    """A dict's leaves are in that of their names: here the other way round."""
    space = Product.of(speed=Box((2,)), place=Box((2,)))
    seen = {"speed": np.array([[1.0, 1.0]]), "place": np.array([[-1.0, -1.0]])}
    paint = drawings.choose(EnvSpec("Parts", space, Discrete(2)), None, seen)
    pixels = np.asarray(paint(None, jax.tree.map(lambda x: x[0], seen), None))
    blue, red = ((pixels == colour).all(-1) for colour in ((0x2E, 0x86, 0xAB), (0xD1, 0x49, 0x5B)))
    assert blue[:, :200].any() and not blue[:, 200:].any() and red[:, 200:].any() and not red[:, :200].any()
    assert all((pixels[6:20, side] < 128).any() for side in (slice(0, 200), slice(200, 400)))  # the names


def test_an_image_among_the_parts_is_shown_as_one():
    """And not as bars: the same picture as of the image alone."""
    image = np.arange(64, dtype=np.float32).reshape(8, 8, 1) / 64
    alone = EnvSpec("Image", Box((8, 8, 1)), Discrete(2))
    parts = EnvSpec("Parts", Product.of(target=Discrete(3), input=Box((8, 8, 1))), Discrete(2))
    pictures = [
        np.asarray(drawings.choose(spec, None, jax.tree.map(lambda x: np.stack([x, x]), obs))(None, obs, None))
        for spec, obs in ((alone, image), (parts, {"target": np.int32(1), "input": image}))
    ]
    np.testing.assert_array_equal(*pictures)


def test_pictures_are_shown_as_they_are_and_channels_by_colour():
    photo = np.zeros((4, 4, 3), np.uint8)
    photo[0, 0] = 255, 0, 0
    spec = EnvSpec("Photo", Box((4, 4, 3), 0, 255, np.uint8), Discrete(2))
    assert drawings.choose(spec, None, photo[None])(None, photo, None).getpixel((20, 20)) == (255, 0, 0)
    cells = np.zeros((4, 4, 2), bool)
    cells[0, 0, 1] = True
    spec = EnvSpec("Cells", Box((4, 4, 2), 0, 1), Discrete(2))
    shown = drawings.choose(spec, None, cells[None])(None, cells, None)
    assert shown.getpixel((20, 20)) == (46, 134, 171) and shown.getpixel((20, 100)) == (238, 238, 238)


def test_an_environments_own_frame_is_enlarged_by_whole_pixels():
    frame = np.zeros((10, 20, 3), np.uint8)
    spec = EnvSpec("Own", Discrete(2), Discrete(2), render=lambda state, params: frame)
    assert drawings.choose(spec, None, np.arange(2))(None, 0, None).size == (400, 200)


def test_values_and_films_draw_the_same_tiles():
    image, side = tiles.picture(CORRIDOR, 400, 256)
    assert image.size == (400, 100) and side == 100
    assert [tiles.colours(CORRIDOR)[i] for i in (0, 3)] == ["#b9d3ea", "#66a182"]
    assert image.getpixel((350, 80)) == (0x66, 0xA1, 0x82) and image.getpixel((250, 50)) == (0x27, 0x45, 0x5C)


def test_a_number_of_an_observation_may_be_zero():
    """A bar of no height is a line."""
    frame = drawings._bars(Box((2,)), np.array([0.0, 1.0]), None, np.array([0.0, 1.0]), None)
    assert np.asarray(frame).std() > 0
