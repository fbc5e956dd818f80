"""networks/conv.py: values and gradients are those of flax's convolution, however it is vmapped; no channels are grouped."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.conv import Conv, convolve

SHAPES = [
    ((), 6, (3, 2), 1),
    ((2, 3), 6, (3, 2), 1),
    ((5,), 8, (4, 4), 2),
    ((2, 3), 9, (5, 4), 3),
    ((5,), 11, (5, 4), 3),
    ((5,), 9, (2, 3), 4),
]


@pytest.mark.parametrize(("batch", "side", "window", "stride"), SHAPES)
def test_values_and_gradients_equal_flax(batch, side, window, stride):
    """Of images and parameters, whether strides divide windows and images or not."""
    x = jax.random.normal(jax.random.key(0), (*batch, side, 8, 3))
    ours, flax = Conv(7, window, stride=stride), nn.Conv(7, window, stride, padding="VALID")
    shapes, rng = jax.eval_shape(ours.init, jax.random.key(1), x), np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape), p.dtype), shapes)  # a bias that shows

    def of(conv):
        def weighed(params, x):
            y = conv.apply(params, x)
            return (y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)).sum(), y

        return lambda *args: jax.grad(weighed, (0, 1), has_aux=True)(*args)

    actual, expected = jax.jit(lambda *args: (of(ours)(*args), of(flax)(*args)))(params, x)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4), actual, expected)


def test_without_bias():
    x, conv = jnp.ones((2, 5, 5, 3)), Conv(4, (3, 3), nn.initializers.ones, use_bias=False)
    y, params = conv.init_with_output(jax.random.key(0), x)
    assert set(params["params"]) == {"kernel"}
    np.testing.assert_allclose(y, np.full((2, 3, 3, 4), 27.0), rtol=1e-6)


def of_library(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("members", [1, 2])
def test_vmap_over_images_and_kernels(axes, members):
    """Values and both gradients, under one vmap or two, equal those of the members one by one."""

    def gradients(convolution):
        return lambda x, kernel: jax.grad(lambda *a: (convolution(*a) ** 2).sum(), (0, 1))(x, kernel)

    shapes = [(2, 9, 7, 3), (4, 3, 3, 5)]
    rng = np.random.default_rng(0)
    lead = [(3,) * members if axis == 0 else () for axis in axes]
    args = [jnp.array(rng.normal(size=(*b, *s)), jnp.float32) for b, s in zip(lead, shapes, strict=True)]
    ours, theirs = gradients(lambda x, k: convolve(x, k, 2)), gradients(of_library)
    for _ in range(members):
        ours, theirs = jax.vmap(ours, axes), jax.vmap(theirs, axes)
    for actual, expected in zip(jax.jit(ours)(*args), jax.jit(theirs)(*args), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_members_are_looped_over_on_cpu():
    """XLA has no fast kernel for the grouped convolution that vmap makes, nor for dimensions in another order."""
    x, kernel = jnp.zeros((3, 2, 8, 8, 4)), jnp.zeros((3, 3, 3, 4, 5))

    def gradient(x, kernel):
        return jax.grad(lambda x, kernel: (convolve(x, kernel, 1) ** 2).sum(), (0, 1))(x, kernel)

    text = str(jax.make_jaxpr(jax.vmap(gradient))(x, kernel))
    assert text.count("conv_general_dilated[") == 2  # forward, and the kernel's gradient
    fast = ("feature_group_count=1", "lhs_spec=(0, 3, 1, 2)", "rhs_spec=(3, 2, 0, 1)")
    assert [text.count(word) for word in fast] == [2, 2, 2] and text.count("= scan[") == 2, text
