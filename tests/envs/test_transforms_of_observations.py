"""envs/transforms.py: stacked frames, one-hot and flat observations, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product
from jaxrl.envs.transforms import flatten, one_hot, stack_frames
from tests.told import KEY, observing, play, run, told


def test_stacked_frames_across_resets():
    actions = np.random.default_rng(0).choice([0, 0, 0, 1, 2, 3], (40, 4))
    first, obs, out = run(stack_frames(told(), 3), jnp.int32(actions))
    _, plain, plain_out = run(told(), jnp.int32(actions))
    np.testing.assert_array_equal(first, np.tile(first[:, :2], 3))
    window = first
    for t in range(40):
        window = np.concatenate([window[:, 2:], plain_out.obs[t]], -1)  # oldest first
        np.testing.assert_array_equal(out.obs[t], window)
        ended = (out.terminated | out.truncated)[t, :, None]
        window = np.where(ended, np.tile(plain[t], 3), window)
        np.testing.assert_array_equal(obs[t], window)
    assert (actions > 0).sum() > 40


@pytest.mark.parametrize(
    ("space", "stacked"),
    [
        (Box((), 0.0, 1.0), Box((3,), 0.0, 1.0)),
        (Box((2,), (-1.0, 0.0), 2.0), Box((6,), (-1.0, 0.0) * 3, 2.0)),
        (Box((4, 5), 0, 255, jnp.uint8), Box((4, 5, 3), 0.0, 255.0, jnp.uint8)),
        (Box((4, 5, 2)), Box((4, 5, 6))),
    ],
)
def test_the_shape_of_stacked_frames(space, stacked):
    frames = [jnp.full(space.shape, i, space.dtype) for i in range(4)]
    env = stack_frames(told(lambda state: jnp.stack(frames)[state.time], space, storage="uint8"), 3)
    assert env.spec.observation_space == stacked and env.spec.storage_dtype == "uint8"
    obs = play(env, [0, 0, 0])[-1].obs
    assert obs.shape == stacked.shape and obs.dtype == stacked.dtype
    channels = space.shape[-1] if len(space.shape) in (1, 3) else 1
    times = np.array(obs).reshape(-1, 3, channels)
    np.testing.assert_array_equal(times, np.broadcast_to([[1], [2], [3]], times.shape))


@pytest.mark.parametrize(
    ("space", "x", "vector", "low", "high", "storage"),
    [
        (Discrete(4), 2, [0, 0, 1, 0], 0.0, 1.0, "bool"),
        (MultiDiscrete((2, 3)), [1, 0], [0, 1, 1, 0, 0], 0.0, 1.0, "bool"),
        (Box((2, 2), -1.0, 9.0), [[1, 2], [3, 4]], [1, 2, 3, 4], -1.0, 9.0, None),
        (Box((), -1.0, 9.0), 5, [5], -1.0, 9.0, None),
        (Box((3,), dtype=jnp.bool_), [1, 0, 1], [1, 0, 1], 0.0, 1.0, "bool"),
        (Box((2,), 0, 255, jnp.uint8), [7, 200], [7, 200], 0.0, 255.0, "uint8"),
        (Product((Discrete(2), Box((2,), 0, 3, jnp.uint8))), (1, [2, 3]), [0, 1, 2, 3], 0.0, (1.0, 1.0, 3.0, 3.0), "uint8"),
        (
            Product.of(b=Product((MultiDiscrete((2, 2)), Box((1,), -2.0))), a=Discrete(2)),
            {"a": 0, "b": ([0, 1], [0.5])},  # in the order of the space, not of the alphabet
            [1, 0, 0, 1, 0.5, 1, 0],
            (0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0),
            (1.0, 1.0, 1.0, 1.0, np.inf, 1.0, 1.0),
            None,
        ),
    ],
)
def test_vectors_of_any_observation(space, x, vector, low, high, storage):
    x = jax.tree.map(lambda like, x: jnp.asarray(x, like.dtype), space.sample(KEY), x, is_leaf=lambda x: hasattr(x, "dtype"))
    env = flatten(observing(space, x))
    assert env.spec.observation_space == Box((len(vector),), low, high) and env.spec.storage_dtype == storage
    (out,) = play(env, [0])
    for obs in (out.obs, env.reset(KEY, env.params)[1]):
        assert obs.dtype == jnp.float32
        np.testing.assert_array_equal(obs, vector)
    if isinstance(space, Discrete | MultiDiscrete):
        same = one_hot(observing(space, x))
        assert dataclasses.replace(same.spec, id="Told+flatten") == env.spec
        np.testing.assert_array_equal(play(same, [0])[0].obs, vector)


def test_a_declared_storage_dtype_is_kept():
    """Of a picture of 0 and 1 in float32, beside an integer."""
    picture = Box((2, 2, 1), 0.0, 1.0)
    assert flatten(observing(picture, jnp.ones((2, 2, 1)), "bool")).spec.storage_dtype == "bool"
    space = Product((picture, Discrete(3)))
    assert flatten(observing(space, (jnp.ones((2, 2, 1)), jnp.int32(0)), "float16")).spec.storage_dtype == "float16"
