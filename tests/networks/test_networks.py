"""networks/: torsos by shape and by hand, and the orthogonal initialiser's distribution and program."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.noisy import NoisyDense
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.torsos import MLP, Layers, Torso, resolve

VECTOR, GRID, IMAGE = Box((4,)), Box((5, 3)), Box((10, 8, 6), dtype=jnp.bool_)
SCREEN = Box((84, 84, 4), 0, 255, jnp.uint8)


def kernels(params):
    return [x.shape for path, x in jax.tree_util.tree_leaves_with_path(params) if "kernel" in jax.tree_util.keystr(path)]


@pytest.mark.parametrize(
    ("space", "name", "shapes"),
    [
        (VECTOR, "auto", [(4, 7), (7, 5)]),
        (GRID, "auto", [(15, 7), (7, 5)]),  # flattened: 5 · 3
        (Discrete(9), "auto", [(9, 7), (7, 5)]),  # one-hot
        (IMAGE, "mlp", [(480, 7), (7, 5)]),  # 10 · 8 · 6
        (IMAGE, "auto", [(3, 3, 6, 16), (768, 7), (7, 5)]),  # a valid 3 × 3 convolution leaves 8 · 6 · 16
        (IMAGE, "minatar", [(3, 3, 6, 16), (768, 7), (7, 5)]),
        # Mnih et al. 2013: maps of 20 · 20 and 9 · 9.
        (SCREEN, "nips", [(8, 8, 4, 16), (4, 4, 16, 32), (2592, 7), (7, 5)]),
        # Mnih et al. 2015: maps of 20 · 20, 9 · 9 and 7 · 7.
        (SCREEN, "nature", [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 7), (7, 5)]),
    ],
)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_torso_shapes(space, name, shapes, batch):
    torso = Torso(space, name, (7, 5))
    obs = jnp.zeros((*batch, *space.shape), space.dtype)
    features, params = jax.eval_shape(torso.init_with_output, jax.random.key(0), obs)
    assert features.shape == (*batch, 5) and features.dtype == jnp.float32
    assert sorted(kernels(params)) == sorted(shapes)


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_a_scalar_box_is_one_feature(batch):
    torso = Torso(Box(()), "mlp", (7, 5))
    features, params = jax.eval_shape(torso.init_with_output, jax.random.key(0), jnp.zeros(batch))
    assert features.shape == (*batch, 5) and sorted(kernels(params)) == [(1, 7), (7, 5)]


@pytest.mark.parametrize("space", [GRID, IMAGE], ids=str)
def test_a_batch_is_its_rows(space):
    torso = Torso(space, "auto", (7, 5))
    obs = jnp.array(np.random.default_rng(0).integers(0, 2 if space == IMAGE else 9, (3, *space.shape)), space.dtype)
    params = jax.jit(torso.init)(jax.random.key(0), obs[0])
    apply = jax.jit(torso.apply)
    rows = jnp.stack([apply(params, row) for row in obs])
    np.testing.assert_allclose(apply(params, obs), rows, rtol=1e-4, atol=1e-5)
    assert np.ptp(np.asarray(rows), 0).max() > 0  # observations are told apart


def test_a_discrete_observation_selects_a_row_of_the_kernel():
    torso = Torso(Discrete(4), "auto", (3,), Layers(activation=lambda x: x))
    params = torso.init(jax.random.key(0), jnp.int32(0))
    (kernel,) = [x for x in jax.tree.leaves(params) if x.shape == (4, 3)]
    np.testing.assert_allclose(torso.apply(params, jnp.arange(4)), kernel, rtol=1e-6)


def test_mlp_by_hand():
    """All kernels 1, biases 0, tanh: tanh(2 · tanh(1 + 2)) for two hidden units."""
    mlp = MLP((2, 1), Layers(jnp.tanh, nn.initializers.ones))
    result, _ = mlp.init_with_output(jax.random.key(0), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(result, [np.tanh(2 * np.tanh(3.0))], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "space", "expected"),
    [
        ("auto", VECTOR, "mlp"),
        ("auto", Discrete(3), "mlp"),
        ("auto", GRID, "mlp"),
        ("auto", IMAGE, "minatar"),
        ("mlp", IMAGE, "mlp"),
        ("minatar", Box((3, 3, 1)), "minatar"),
        ("auto", SCREEN, "nature"),
        ("auto", Box((64, 64, 3)), "nature"),
        ("auto", Box((64, 63, 3)), "minatar"),
        ("nature", Box((36, 36, 1)), "nature"),
        ("nips", Box((20, 20, 1)), "nips"),
    ],
)
def test_resolve(name, space, expected):
    assert resolve(name, space) == expected


@pytest.mark.parametrize("space", [VECTOR, GRID, Discrete(3), Box((2, 10, 3)), Box((10, 2, 3))], ids=str)
def test_a_torso_that_cannot_take_the_observation_is_refused(space):
    with pytest.raises(InputError, match="minatar needs images"):
        resolve("minatar", space)
    with pytest.raises(InputError, match="nature needs images .*; valid here: auto, mlp$"):
        resolve("nature", space)


def test_nature_is_refused_for_small_images():
    with pytest.raises(
        InputError, match=r"nature needs images \[H >= 36, W >= 36, C\].*; valid here: auto, mlp, minatar, nips$"
    ):
        resolve("nature", Box((36, 31, 3)))


# The orthogonal initialiser.


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((64, 64), 1.0),
        ((64, 64), 2**0.5),
        ((120, 84), 0.01),
        ((4, 64), 1.0),
        ((64, 1), 1.0),
        ((1, 64), 2**0.5),
        ((1, 1), 1.0),
        ((256, 256), 1.0),
        ((3, 3, 4, 16), 2**0.5),  # a convolution's: axes before the last are rows
    ],
)
def test_columns_or_rows_are_orthonormal_times_scale(shape, scale):
    x = np.asarray(jax.jit(orthogonal(scale), static_argnums=1)(jax.random.key(0), shape), np.float64)
    assert x.shape == shape
    x = x.reshape(-1, shape[-1]) / scale
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-4)


def draws(shape, number):
    return np.asarray(jax.vmap(lambda key: orthogonal()(key, shape))(jax.random.split(jax.random.key(0), number)))


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (6, 2), (2, 6)])
def test_entries_are_those_of_a_haar_matrix(rows, columns):
    """An entry's square follows Beta(½, (n - 1) / 2), n the longer side; its sign is fair: mean 0, variance 1 / n."""
    n, number = max(rows, columns), 3000
    x = draws((rows, columns), number)
    for entry in (x[:, 0, 0], x[:, -1, -1], x[:, 0, -1]):
        assert scipy.stats.kstest(entry**2, scipy.stats.beta(0.5, (n - 1) / 2).cdf).pvalue > 1e-4
        assert scipy.stats.binomtest(int((entry > 0).sum()), number).pvalue > 1e-4
    # The mean of 3000 independent entries has standard deviation √(1 / n / 3000): within 5 of them.
    assert np.abs(x.mean(0)).max() < 5 * (1 / n / number) ** 0.5
    np.testing.assert_allclose((x**2).mean(0), 1 / n, rtol=0.25)


def test_plane_rotations_and_reflections_are_equally_likely():
    x = draws((2, 2), 4000)
    reflections = int((np.linalg.det(x) < 0).sum())
    assert scipy.stats.binomtest(reflections, len(x)).pvalue > 1e-4
    angle = np.arctan2(x[:, 1, 0], x[:, 0, 0])
    assert scipy.stats.kstest(angle, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4


def has_library_call(init):
    """Whether the program calls outside XLA (LAPACK, cuSolver), before or after compiling."""
    lowered = jax.jit(lambda key: init(key, (64, 32))).lower(jax.random.key(0))
    text = lowered.as_text() + lowered.compile().as_text()
    return any(word in text.lower() for word in ("lapack", "geqrf", "cusolver", "custom_call", "custom-call"))


def test_the_program_calls_no_library():
    assert not has_library_call(orthogonal())
    assert has_library_call(nn.initializers.orthogonal())  # the check finds what it looks for


DEADLOCK = """
import jax, jax.numpy as jnp
from jaxrl.networks.initializers import orthogonal
def f(key):
    return sum(orthogonal()(k, (64, 64)) for k in jax.random.split(key, 6))
g = jax.jit(jax.vmap(f))
keys = jax.random.split(jax.random.key(0), 8)
for i in range(300):
    x = g(keys)
jax.block_until_ready(x)
print(bool(jnp.isfinite(x).all()))
"""


@pytest.mark.release
def test_many_vmapped_initialisations_finish():
    """The same program on `jax.nn.initializers.orthogonal` (batched QR) hangs XLA:CPU within a few hundred calls."""
    as_users = os.environ | {"XLA_FLAGS": ""}  # it runs longer than it compiles
    done = subprocess.run([sys.executable, "-c", DEADLOCK], capture_output=True, text=True, timeout=120, env=as_users)
    assert done.stdout.strip() == "True", done.stderr


def test_noisy_dense_by_hand():
    """Against the paper's formula in NumPy with the noise that the layer drew; the mean without the stream."""
    layer, x = NoisyDense(3, sigma=0.7), jnp.array([[1.0, -2.0], [0.5, 4.0]])
    params = layer.init(jax.random.key(0), x)
    p = jax.tree.map(np.asarray, params["params"])
    np.testing.assert_allclose(p["sigma_w"], 0.7 / 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(p["sigma_b"], 0.7 / 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(layer.apply(params, x), np.asarray(x) @ p["kernel"] + p["bias"], rtol=1e-5)
    _, noise = layer.apply(params, x, rngs={"noise": jax.random.key(1)}, capture_intermediates=lambda m, n: n == "_noise")
    e_in, e_out = map(np.asarray, noise["intermediates"]["_noise"][0])
    kernel, bias = p["kernel"] + p["sigma_w"] * np.outer(e_in, e_out), p["bias"] + p["sigma_b"] * e_out
    expected = np.asarray(x) @ kernel + bias
    np.testing.assert_allclose(layer.apply(params, x, rngs={"noise": jax.random.key(1)}), expected, rtol=1e-5)
    single = layer.apply(params, x[0], rngs={"noise": jax.random.key(1)})  # the other way of computing it
    np.testing.assert_allclose(single, expected[0], rtol=1e-5)


def test_noise_is_signed_roots_of_gaussians():
    """f(ε) = sign(ε) √|ε|: f² · sign is standard normal."""
    layer = NoisyDense(4)
    params = layer.init(jax.random.key(0), jnp.ones(20_000))
    _, noise = layer.apply(
        params, jnp.ones(20_000), rngs={"noise": jax.random.key(1)}, capture_intermediates=lambda m, n: n == "_noise"
    )
    f = np.asarray(noise["intermediates"]["_noise"][0][0])
    assert scipy.stats.kstest(f * np.abs(f), "norm").pvalue > 1e-3


@pytest.mark.parametrize("atoms", [1, 5])
@pytest.mark.parametrize("dueling", [False, True])
def test_q_network_shapes_and_dueling_identity(atoms, dueling):
    """Dueling: mean_a Q is V, whatever the advantages; with the value stream's head at 0 it is 0 everywhere."""
    network = QNetwork(Box((3,)), "mlp", (8, 6), 4, atoms, dueling)
    obs = jax.random.normal(jax.random.key(1), (5, 3))
    params = network.init(jax.random.key(0), (), obs)
    out, memory = network.apply(params, (), obs)
    assert memory == () and out.shape == (5, 4, atoms) and float(jnp.std(out)) > 0
    if dueling:
        streams = params["params"]
        assert {k: streams[k]["Dense_0"]["kernel"].shape for k in ("MLP_0", "MLP_1")} == {"MLP_0": (8, 6), "MLP_1": (8, 6)}
        value = jnp.zeros_like(streams["Dense_0"]["kernel"])
        assert value.shape == (6, atoms)
        silent = {"params": {**streams, "Dense_0": {**streams["Dense_0"], "kernel": value}}}
        np.testing.assert_allclose(network.apply(silent, (), obs)[0].mean(1), 0.0, atol=1e-6)


def test_layer_norm_torso_by_hand():
    """(1, 3) through the identity: mean 2, standard deviation 1: (-1, 1), then relu."""
    mlp = MLP((2,), Layers(kernel_init=lambda key, shape, dtype: jnp.eye(2), layer_norm=True))
    result, _ = mlp.init_with_output(jax.random.key(0), jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(result, [0.0, 1.0], rtol=1e-5)


def test_nature_cnn_against_lax():
    """Three convolutions of pixels / 255 and a dense layer."""
    space = Box((44, 40, 2), 0, 255, jnp.uint8)
    torso, rng = Torso(space, "nature", (5,)), np.random.default_rng(0)
    obs = jnp.array(rng.integers(0, 256, (2, *space.shape)), space.dtype)
    shapes, axes = jax.eval_shape(torso.init, jax.random.key(0), obs), ("NHWC", "HWIO", "NHWC")
    params = jax.tree.map(lambda p: jnp.array(0.1 * rng.normal(size=p.shape), p.dtype), shapes)

    def by_lax(p, x):
        for layer, stride in zip((p["Conv_0"], p["Conv_1"], p["Conv_2"]), (4, 2, 1), strict=True):
            x = jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), "VALID", dimension_numbers=axes)
            x = nn.relu(x + layer["bias"][None, None, None])
        return nn.relu(x.reshape(2, -1) @ p["MLP_0"]["Dense_0"]["kernel"] + p["MLP_0"]["Dense_0"]["bias"][None])

    expected = jax.jit(by_lax)(params["params"]["NatureCNN_0"], obs.astype(jnp.float32) / 255)
    np.testing.assert_allclose(jax.jit(torso.apply)(params, obs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("space", "dtype", "scale"),
    [
        (Box((3, 3, 1), 0, 255, jnp.uint8), jnp.uint8, 255),  # pixels
        (Box((3, 3, 1), 0, 255, jnp.uint8), jnp.float32, 1),  # pixels, normalised already
        (Box((3, 3, 1)), jnp.uint8, 1),  # numbers that replay stores as uint8
        (Box((9,), 0, 255, jnp.uint8), jnp.uint8, 1),  # no image
    ],
)
def test_pixels_are_divided_by_255(space, dtype, scale):
    torso = Torso(space, "mlp", (1,), Layers(lambda x: x, nn.initializers.ones))
    features, _ = torso.init_with_output(jax.random.key(0), jnp.full(space.shape, 17, dtype))
    np.testing.assert_allclose(features, [9 * 17 / scale], rtol=1e-6)
