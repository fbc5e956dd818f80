"""Torsos: observation [..., obs] -> features [..., F]. Leading axes are batch axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.errors import InputError
from jaxrl.spaces import Discrete, Space, one_array

TorsoName = Literal["auto", "mlp", "minatar"]
Initializer = Callable[..., jax.Array]
lecun_normal = nn.initializers.lecun_normal()


@dataclasses.dataclass(frozen=True)
class Layers:
    """How hidden layers are made. dense: a linear layer's class or factory; layer_norm: normalise before the activation."""

    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Initializer = lecun_normal
    dense: Callable[..., nn.Module] = nn.Dense
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
    """A convolution without padding, stride 1, as one product with the image's patches: [..., H, W, C] -> [..., H', W', F].

    XLA on CPU has no fast kernel for the grouped convolution that `vmap` over parameters makes of `nn.Conv`; of a product
    it makes a batched product.
    """

    features: int
    window: tuple[int, int]
    kernel_init: Initializer = lecun_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        (height, width), channels = self.window, x.shape[-1]
        rows, columns = x.shape[-3] - height + 1, x.shape[-2] - width + 1
        kernel = self.param("kernel", self.kernel_init, (height, width, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        shifted = [x[..., i : i + rows, j : j + columns, :] for i in range(height) for j in range(width)]
        y = jnp.concatenate(shifted, -1) @ kernel.reshape(-1, self.features)
        return y + jnp.broadcast_to(bias, y.shape)


class MinAtarCNN(nn.Module):
    """The network of Young and Tian 2019 (MinAtar): one 3 × 3 convolution of 16 filters, then dense layers."""

    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.layers.after(Conv(16, (3, 3), self.layers.kernel_init)(x))
        x = x.reshape(*x.shape[:-3], -1)
        return MLP(self.hidden_sizes, self.layers)(x)


class Torso(nn.Module):
    """The torso for an observation space: one-hot for a discrete one, flattened for an MLP, images for a CNN."""

    space: Space
    name_: TorsoName
    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        name = resolve(self.name_, self.space)
        if isinstance(self.space, Discrete):
            obs = jax.nn.one_hot(obs, self.space.n)
        obs = obs.astype(jnp.float32)
        if name == "minatar":
            return MinAtarCNN(self.hidden_sizes, self.layers)(obs)
        rank = 1 if isinstance(self.space, Discrete) else len(one_array(self.space).shape)
        batch = obs.shape[: obs.ndim - rank]
        return MLP(self.hidden_sizes, self.layers)(obs.reshape(*batch, -1))


def resolve(name: TorsoName, space: Space) -> TorsoName:
    """The torso that `name` means for `space`: "auto" is a CNN for images [H, W, C], else an MLP.

    Raises ValueError where the torso cannot take the observation.
    """
    shape = one_array(space).shape
    image = len(shape) == 3 and min(shape[:2]) >= 3
    if name == "auto":
        return "minatar" if image else "mlp"
    if name == "minatar" and not image:
        raise InputError(f"torso = minatar needs images [H >= 3, W >= 3, C], not {space}; valid here: auto, mlp")
    return name
