"""Cores of torsos with a memory: (memory, x float32 [T, N, F], first bool [T, N]) -> (features [T, N, F'], memory).

Acting is an unroll of length one, so that learning computes what acting computed. Where `first[t, n]`, row n's memory is
reset to the initial one before step t. Every leaf of a memory has the leading axis N.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.types import PyTree
from jaxrl.networks.dense import Dense
from jaxrl.networks.initializers import orthogonal

Out = TypeVar("Out", bound=PyTree)


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014), x float32 [T, N, F] -> [T, N, features]; the memory is h [N, features]."""

    features: int

    @nn.nowrap
    def initial(self, num_envs: int) -> PyTree:
        """The memory before an episode: zeros."""
        return jnp.zeros((num_envs, self.features), jnp.float32)

    @nn.nowrap
    def cell(self) -> nn.RNNCellBase:
        """What is applied at each step; flax's own recurrent initialiser is a QR."""
        return nn.GRUCell(self.features, recurrent_kernel_init=orthogonal(), name="cell")

    @nn.compact
    def __call__(self, memory: PyTree, x: jax.Array, first: jax.Array) -> tuple[jax.Array, PyTree]:
        initial = self.initial(x.shape[1])

        def step(cell: Any, memory: PyTree, inputs: tuple[jax.Array, jax.Array]) -> tuple[PyTree, jax.Array]:
            x, first = inputs
            return cell(trees.where(first, initial, memory), x)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        memory, y = scan(self.cell(), memory, (x, first))
        return y, memory


class LSTM(GRU):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), x [T, N, F] -> [T, N, features]; the memory is (c, h)."""

    @nn.nowrap
    def initial(self, num_envs: int) -> PyTree:
        """The memory before an episode: zeros."""
        return (super().initial(num_envs),) * 2

    @nn.nowrap
    def cell(self) -> nn.RNNCellBase:
        """What is applied at each step."""
        return nn.LSTMCell(self.features, recurrent_kernel_init=orthogonal(), name="cell")


class TransformerMemory(NamedTuple):
    """What the next step can attend to, the latest last; entries that it must not see are 0.

    keys, values: a layer each, float32 [N, window - 1, H, D]. filled: int32 [N], how many entries are of this episode.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    filled: jax.Array


class Transformer(nn.Module):
    """Causal Transformer with pre-norm blocks (Xiong et al. 2020), x float32 [T, N, F] -> [T, N, features].

    A step attends to itself and to the `window` - 1 steps before it in its episode. Past keys and values are kept as they
    were (Dai et al. 2019), so each layer reaches `window` - 1 steps further back. Positions: a bias per head and offset.
    """

    features: int
    num_layers: int = 1
    num_heads: int = 4
    window: int = 16

    @nn.nowrap
    def initial(self, num_envs: int) -> TransformerMemory:
        """The memory before an episode: no entries."""
        empty = jnp.zeros((num_envs, self.window - 1, self.num_heads, self.features // self.num_heads), jnp.float32)
        layers = (empty,) * self.num_layers
        return TransformerMemory(layers, layers, jnp.zeros(num_envs, jnp.int32))

    @nn.compact
    def __call__(self, memory: TransformerMemory, x: jax.Array, first: jax.Array) -> tuple[jax.Array, TransformerMemory]:
        # Episodes are numbered: 0 goes on from the memory, whose entries that are not filled belong to none.
        past = jnp.arange(self.window - 1, 0, -1, dtype=jnp.int32)[:, None] <= memory.filled[None]
        episode = jnp.concatenate([past.astype(jnp.int32) - 1, jnp.cumsum(first, 0, dtype=jnp.int32)])
        kept = (episode[len(x) :] == episode[-1:]).T

        x = Dense(self.features)(x)
        pasts = []
        for layer in zip(memory.keys, memory.values, strict=True):
            x, latest = _Block(self.num_heads, self.window)(layer, x, episode)
            pasts.append(trees.where(kept, latest, jax.tree.map(jnp.zeros_like, latest)))
        keys, values = zip(*pasts, strict=True)
        # Fused with a value head's gradient, the bias's would be summed in an order that depends on the width of a vmap.
        features = jax.lax.optimization_barrier(nn.LayerNorm()(x))
        return features, TransformerMemory(keys, values, kept.sum(1, dtype=jnp.int32))


class _Block(nn.Module):
    """Attention, then two dense layers, each normalised before and added to its input."""

    num_heads: int
    window: int

    @nn.compact
    def __call__(
        self, past: tuple[jax.Array, jax.Array], x: jax.Array, episode: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """past: keys and values [N, window - 1, H, D]; x [T, N, F]; episode int32 [window - 1 + T, N]."""
        steps, num_envs, features = x.shape
        heads = (steps, num_envs, 3, self.num_heads, features // self.num_heads)
        query, key, value = jnp.moveaxis(Dense(3 * features)(nn.LayerNorm()(x)).reshape(heads), 2, 0)
        keys = jnp.concatenate([past[0].swapaxes(0, 1), key])
        values = jnp.concatenate([past[1].swapaxes(0, 1), value])
        bias = self.param("bias", nn.initializers.zeros, (self.num_heads, self.window), jnp.float32)
        attended = _attend(query, keys, values, episode, bias)
        x = x + Dense(features)(attended.reshape(x.shape))
        hidden = nn.relu(Dense(2 * features)(nn.LayerNorm()(x)))
        latest = (keys[steps:].swapaxes(0, 1), values[steps:].swapaxes(0, 1))
        return x + Dense(features)(hidden), latest


def _attend(query: jax.Array, keys: jax.Array, values: jax.Array, episode: jax.Array, bias: jax.Array) -> jax.Array:
    """Attention [T, N, H, D] of each step to itself and the W - 1 before it, as far as they are of its episode.

    query [T, N, H, D]; keys, values [W - 1 + T, N, H, D] and episode [W - 1 + T, N] begin earlier; bias [H, W], for the
    present step last. Steps go in blocks of W, which costs O(T W): at T = 128, W = 16 on CPU a sixth of a masked [T, T].
    """
    (steps, _, _, depth), window = query.shape, bias.shape[1]
    size = min(steps, window)
    reach = size + window - 1  # of the keys that one block can see
    query, (keys, values, episode) = _blocks(query, size, size), (_blocks(x, size, reach) for x in (keys, values, episode))
    place = np.arange(reach)[None] - np.arange(size)[:, None]  # of key s in the window of step t; its bias
    own = episode[:, window - 1 :, None] == episode[:, None]  # [B, t, s, N]
    visible = own & jnp.array((place >= 0) & (place < window))[None, :, :, None]
    scores = jnp.einsum("btnhd,bsnhd->bnhts", query, keys) / depth**0.5
    # A product with one-hot vectors: a gather's gradient would be a scatter.
    biases = jnp.einsum("hw,tsw->hts", bias, jax.nn.one_hot(place, window, dtype=jnp.float32))
    weights = jax.nn.softmax(scores + biases[None, None], where=visible.transpose(0, 3, 1, 2)[:, :, None])
    attended = jnp.einsum("bnhts,bsnhd->btnhd", weights, values)
    return attended.reshape(-1, *attended.shape[2:])[:steps]


def _blocks(x: jax.Array, stride: int, size: int) -> jax.Array:
    """Blocks [B, size, ...] of axis 0 that begin `stride` apart, B enough to begin one at each step; the last end with 0."""
    number = -(-(len(x) - size + stride) // stride)
    x = jnp.pad(x, [(0, (number - 1) * stride + size - len(x))] + [(0, 0)] * (x.ndim - 1))
    return jnp.stack([x[i * stride : i * stride + size] for i in range(number)])


def peek(
    apply: Callable[[PyTree, PyTree, jax.Array], tuple[Out, PyTree]],
    memory: PyTree,
    obs: PyTree,
    first: jax.Array,
    next_obs: PyTree,
) -> Out:
    """What `apply` makes of each next_obs with the memory after its step: leaves [T, N, ...], as obs and next_obs.

    apply: (memory, obs [1, N, ...], first [1, N]) -> (out [1, N, ...], memory). Unlike the unroll on obs, shifted, it sees
    observations before an auto-reset: V(next_obs) of a truncated step.
    """

    def step(memory: PyTree, inputs: PyTree) -> tuple[PyTree, Out]:
        obs, first, next_obs = jax.tree.map(lambda x: x[None], inputs)
        _, memory = apply(memory, obs, first)
        out, _ = apply(memory, next_obs, jnp.zeros_like(first))
        return memory, jax.tree.map(lambda x: x[0], out)

    return jax.lax.scan(step, memory, (obs, first, next_obs))[1]
