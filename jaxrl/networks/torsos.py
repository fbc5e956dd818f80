"""Torsos: observation [..., obs] -> features [..., F]. Leading axes are batch axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Discrete, Space, one_array
from jaxrl.networks.dense import Dense

TorsoName = Literal["auto", "mlp", "minatar", "nature"]
Initializer = Callable[..., jax.Array]
lecun_normal = nn.initializers.lecun_normal()


@dataclasses.dataclass(frozen=True)
class Layers:
    """How hidden layers are made. dense: a linear layer's class or factory; layer_norm: normalise before the activation."""

    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Initializer = lecun_normal
    dense: Callable[..., nn.Module] = Dense
    layer_norm: bool = False

    def after(self, x: jax.Array) -> jax.Array:
        """What follows a linear layer. To be called within a compact module."""
        return self.activation(nn.LayerNorm()(x) if self.layer_norm else x)


class MLP(nn.Module):
    """Dense layers, each followed by normalisation, if wanted, and the activation."""

    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.hidden_sizes:
            x = self.layers.after(self.layers.dense(size, kernel_init=self.layers.kernel_init)(x))
        return x


class Conv(nn.Module):
    """A convolution without padding as one product with the image's patches: [..., H, W, C] -> [..., H', W', F].

    XLA on CPU has no fast kernel for the grouped convolution that `vmap` over parameters makes of `nn.Conv`; of a product
    it makes a batched product.
    """

    features: int
    window: tuple[int, int]
    kernel_init: Initializer = lecun_normal
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        (height, width), channels = self.window, x.shape[-1]
        rows, columns = (x.shape[-3] - height) // self.stride + 1, (x.shape[-2] - width) // self.stride + 1
        kernel = self.param("kernel", self.kernel_init, (height, width, channels, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        kernel = kernel.reshape(height, width, -1)
        if self.stride > 1:  # on cells of stride × stride pixels the stride is 1: far fewer slices to put together
            height, width = -(-height // self.stride), -(-width // self.stride)
            kernel = _cells(kernel, height, width, self.stride)
            x = _cells(x, rows + height - 1, columns + width - 1, self.stride)
        shifted = [x[..., i : i + rows, j : j + columns, :] for i in range(height) for j in range(width)]
        y = jnp.concatenate(shifted, -1) @ kernel.reshape(-1, self.features)
        return y + jnp.broadcast_to(bias, y.shape)


def _cells(x: jax.Array, rows: int, columns: int, size: int) -> jax.Array:
    """[..., H, W, C] -> [..., rows, columns, size² · C], cells of size × size pixels, the image cut or filled up with 0."""
    batch, (height, width, channels) = x.shape[:-3], x.shape[-3:]
    edges = [(0, 0, 0)] * len(batch) + [(0, rows * size - height, 0), (0, columns * size - width, 0), (0, 0, 0)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), edges).reshape(*batch, rows, size, columns, size, channels)
    return x.swapaxes(-4, -3).reshape(*batch, rows, columns, -1)


class NatureCNN(nn.Module):
    """The network of Mnih et al. 2015 (DQN): convolutions of 32 8 × 8 / 4, 64 4 × 4 / 2, 64 3 × 3 / 1, then dense layers."""

    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = self.layers.after(Conv(features, (size, size), self.layers.kernel_init, stride)(x))
        return MLP(self.hidden_sizes, self.layers)(x.reshape(*x.shape[:-3], -1))


class MinAtarCNN(nn.Module):
    """The network of Young and Tian 2019 (MinAtar): one 3 × 3 convolution of 16 filters, then dense layers."""

    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.layers.after(Conv(16, (3, 3), self.layers.kernel_init)(x))
        x = x.reshape(*x.shape[:-3], -1)
        return MLP(self.hidden_sizes, self.layers)(x)


# Convolutional torsos: the network, and the least side of the images that it takes.
CNNS: dict[str, tuple[type[MinAtarCNN | NatureCNN], int]] = {"minatar": (MinAtarCNN, 3), "nature": (NatureCNN, 36)}
LARGE = 64  # the least side of images that "auto" gives to the larger network


class Torso(nn.Module):
    """The torso for an observation space: one-hot for a discrete one, flattened for an MLP, images for a CNN.

    Images of pixels, uint8 [H, W, C], are divided by 255.
    """

    space: Space
    name_: TorsoName
    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        name = resolve(self.name_, self.space)
        if isinstance(self.space, Discrete):
            obs = jax.nn.one_hot(obs, self.space.n, dtype=jnp.float32)
        shape = one_array(self.space).shape
        # Both dtypes: pixels may have been normalised already, and numbers of any kind may be stored as uint8.
        pixels = len(shape) == 3 and obs.dtype == self.space.dtype == jnp.uint8  # type: ignore[union-attr]
        obs = obs.astype(jnp.float32) / 255 if pixels else obs.astype(jnp.float32)
        if name in CNNS:
            return CNNS[name][0](self.hidden_sizes, self.layers)(obs)
        rank = 1 if isinstance(self.space, Discrete) else len(shape)
        batch = obs.shape[: obs.ndim - rank]
        return MLP(self.hidden_sizes, self.layers)(obs.reshape(*batch, -1))


def resolve(name: TorsoName, space: Space) -> TorsoName:
    """The torso that `name` means for `space`: "auto" is a CNN for images [H, W, C], by their size, else an MLP.

    Raises InputError where the torso cannot take the observation.
    """
    shape = one_array(space).shape
    side = min(shape[:2]) if len(shape) == 3 else 0
    fitting = [cnn for cnn, (_, least) in CNNS.items() if side >= least]
    if name == "auto":
        return "nature" if side >= LARGE else "minatar" if fitting else "mlp"
    if name in CNNS and name not in fitting:
        least, valid = CNNS[name][1], ", ".join(["auto", "mlp", *fitting])
        raise InputError(f"torso = {name} needs images [H >= {least}, W >= {least}, C], not {space}; valid here: {valid}")
    return name
