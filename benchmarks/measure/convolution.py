"""Convolutions in a compiled loop, beside flax's: `python -m benchmarks run convolution`.

The convolutions of Mnih et al. 2015 on frames 84 × 84 × 4, batches of 32 in turn, one device: forward, and gradient descent;
one network, and two under `vmap`. Programs take turns; the fastest run counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.harness import processes
from benchmarks.harness.runner import Part, Row
from benchmarks.harness.timing import fastest
from jaxrl.core.types import PyTree
from jaxrl.networks.conv import Conv
from jaxrl.networks.torsos import CNNS

BATCH, BATCHES, ROUNDS = 32, 8, 10
MUST = {"forward": 10_000, "gradient": 1_800}  # of one network


class Convolutions(nn.Module):
    """The convolutions alone: images uint8 [N, 84, 84, 4] -> float32 [N, 3136]. conv makes a layer."""

    conv: Callable[[int, tuple[int, int], int], Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32) / 255
        for features, size, stride in CNNS["nature"][1]:
            x = nn.relu(self.conv(features, (size, size), stride)(x))
        return x.reshape(len(x), -1)


LAYERS: dict[str, Callable[[int, tuple[int, int], int], Any]] = {
    "jaxrl": lambda features, window, stride: Conv(features, window, stride=stride),
    "flax": lambda features, window, stride: nn.Conv(features, window, stride, padding="VALID"),
}


def forward(network: Any, params: PyTree, images: jax.Array) -> jax.Array:
    """The sum of what the network makes of each batch of images [T, B, 84, 84, 4]."""
    total = jnp.float32(0)
    return jax.lax.scan(lambda total, x: (total + network.apply(params, x).sum(), None), total, images)[0]


def gradient(network: Any, params: PyTree, images: jax.Array) -> PyTree:
    """The parameters after a step of gradient descent on each batch."""

    def step(params: PyTree, x: jax.Array) -> tuple[PyTree, None]:
        slope = jax.grad(lambda params: (network.apply(params, x) ** 2).mean())(params)
        return jax.tree.map(lambda p, g: p - 1e-4 * g, params, slope), None

    return jax.lax.scan(step, params, images)[0]


def rates(work: str, networks: int, smoke: bool) -> dict[str, float]:
    """Images a second: {layer: rate}. flax's gradient of several networks is left out, for it takes minutes."""
    processes.one_device()
    batch, batches = (2, 1) if smoke else (BATCH, BATCHES)
    images = jax.random.randint(jax.random.key(0), (batches, batch, 84, 84, 4), 0, 256).astype(jnp.uint8)
    names = ("jaxrl",) if work == "gradient" and networks > 1 else LAYERS
    programs: dict[str, tuple[Callable[..., Any], tuple]] = {}
    for name in names:
        network = Convolutions(LAYERS[name])
        init, program = (
            partial(network.init, x=images[0]),
            partial({"forward": forward, "gradient": gradient}[work], network),
        )
        key = jax.random.key(1)
        if networks > 1:
            init, program, key = jax.vmap(init), jax.vmap(program, (0, None)), jax.random.split(key, networks)
        programs[name] = (jax.jit(program), (init(key), images))
    times = fastest(programs, 1 if smoke else ROUNDS)
    return {name: networks * batches * batch / seconds for name, seconds in times.items()}


def part(work: str) -> Part:
    """The part of one of the two programs."""

    def rows(smoke: bool) -> Iterator[Row]:
        for networks in (1,) if smoke else (1, 2):
            must = {"must": f"jaxrl >= {MUST[work]:,} images/s"} if networks == 1 else {}
            found = processes.apart(smoke, rates, work, networks, smoke)
            yield {"work": f"{work}, {networks} network{'s' * (networks > 1)}", "images_per_s": found, **must}

    return rows


PARTS: dict[str, Part] = {work: part(work) for work in MUST}
