"""Small distributions over the actions of a space.

Parameters have leading batch axes [...] and a last one for the event; methods reduce the event alone, so that they work
on batches and under `vmap`. Distributions are pytrees all of whose leaves have the batch axes in front: `jax.tree.map`
reshapes and gathers them along those. Log-densities are with respect to the action in the units of its space.
"""

from __future__ import annotations

import abc
import math
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.spaces import Box, Product
from jaxrl.core.trees import pytree, static
from jaxrl.core.types import Key, PyTree
from jaxrl.ops import boxes
from jaxrl.ops.values import at_action

INSIDE = 5e-7  # of a box's width: an action nearer to a bound has the density of one this far inside
# Quadrature over a standard normal. The nodes lie evenly: Gauss–Hermite's reach far into the tails and leave few for the
# bend of log sech² when the normal is wide; twice as many of them do little better.
NODES = (np.arange(16, dtype=np.float32) - 7.5) * (9 / 16)
WEIGHTS = np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum()


class Distribution(abc.ABC):
    """A distribution over actions x, an element of a space with the batch axes in front of every array."""

    @abc.abstractmethod
    def sample_and_log_prob(self, key: Key) -> tuple[PyTree, jax.Array]:
        """(x, log π(x)): a draw for each batch entry, all from one key. Gradients flow through x where it is continuous.

        log π is that of the draw before it was squashed and rounded: exact also where x rounds to a bound.
        """

    @abc.abstractmethod
    def mode(self) -> PyTree:
        """The greedy action x."""

    @abc.abstractmethod
    def log_prob(self, x: PyTree) -> jax.Array:
        """log π(x): float32 [...]."""

    @abc.abstractmethod
    def entropy(self) -> jax.Array:
        """-E[log π(x)] in nats: float32 [...]."""

    @abc.abstractmethod
    def kl(self, other: Self) -> jax.Array:
        """KL(self ‖ other) in nats, of the same family: float32 [...]."""

    def sample(self, key: Key) -> PyTree:
        """The x of `sample_and_log_prob(key)`."""
        return self.sample_and_log_prob(key)[0]


@pytree
class Categorical(Distribution):
    """π = softmax(logits); x int32 [...]. logits: float32 [..., A], -inf where an action is forbidden."""

    logits: jax.Array

    def sample_and_log_prob(self, key: Key) -> tuple[jax.Array, jax.Array]:
        x = jax.random.categorical(key, self.logits).astype(jnp.int32)
        return x, self.log_prob(x)

    def mode(self) -> jax.Array:
        return jnp.argmax(self.logits, -1).astype(jnp.int32)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return at_action(jax.nn.log_softmax(self.logits), x)

    def entropy(self) -> jax.Array:
        log_probs = jax.nn.log_softmax(self.logits)
        probs = jnp.exp(log_probs)
        return -jnp.sum(probs * jnp.where(probs > 0, log_probs, 0.0), -1)

    def kl(self, other: Self) -> jax.Array:
        here, there = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        probs = jnp.exp(here)
        return jnp.sum(probs * (jnp.where(probs > 0, here, 0.0) - jnp.where(probs > 0, there, 0.0)), -1)


@pytree
class MultiCategorical(Distribution):
    """Independent categoricals; x int32 [..., len(sizes)]. logits: float32 [..., sum(sizes)], one after another."""

    logits: jax.Array
    sizes: tuple[int, ...] = static()

    @property
    def parts(self) -> list[Categorical]:
        """The categoricals, in order."""
        ends = np.cumsum(self.sizes)[:-1].tolist()
        return [Categorical(logits) for logits in jnp.split(self.logits, ends, -1)]

    def sample_and_log_prob(self, key: Key) -> tuple[jax.Array, jax.Array]:
        noise = jax.random.gumbel(
            key, self.logits.shape, jnp.float32
        )  # argmax(logits + Gumbel) is distributed as softmax(logits)
        x = MultiCategorical(self.logits + noise, self.sizes).mode()
        return x, self.log_prob(x)

    def mode(self) -> jax.Array:
        return jnp.stack([part.mode() for part in self.parts], -1)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return jnp.stack([part.log_prob(x[..., i]) for i, part in enumerate(self.parts)]).sum(0)

    def entropy(self) -> jax.Array:
        return jnp.stack([part.entropy() for part in self.parts]).sum(0)

    def kl(self, other: Self) -> jax.Array:
        return jnp.stack([p.kl(q) for p, q in zip(self.parts, other.parts, strict=True)]).sum(0)


@pytree
class Gaussian(Distribution):
    """A normal with diagonal covariance; x [..., *space.shape], not confined to the space's bounds.

    mean, log_std: float32 [..., D], D = prod(space.shape).
    """

    mean: jax.Array
    log_std: jax.Array
    space: Box = static()

    def sample_and_log_prob(self, key: Key) -> tuple[jax.Array, jax.Array]:
        u, log_prob = self.draw(key)
        return boxes.shaped(u, self.space), log_prob

    def mode(self) -> jax.Array:
        return boxes.shaped(self.mean, self.space)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return self.log_density(boxes.flat(x, self.space))

    def entropy(self) -> jax.Array:
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), -1)

    def kl(self, other: Self) -> jax.Array:
        wider = other.log_std - self.log_std
        apart = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return jnp.sum(wider + 0.5 * (jnp.expm1(-2.0 * wider) + jnp.square(apart)), -1)

    def draw(self, key: Key) -> tuple[jax.Array, jax.Array]:
        """A draw as vectors: u float32 [..., D], and log π(u) float32 [...]."""
        noise = jax.random.normal(key, self.mean.shape, jnp.float32)
        return self.mean + jnp.exp(self.log_std) * noise, self._of_noise(noise)

    def log_density(self, u: jax.Array) -> jax.Array:
        """log π of vectors u float32 [..., D]: float32 [...]."""
        return self._of_noise((u - self.mean) * jnp.exp(-self.log_std))

    def _of_noise(self, noise: jax.Array) -> jax.Array:
        return -jnp.sum(0.5 * jnp.square(noise) + self.log_std + 0.5 * math.log(2 * math.pi), -1)


@pytree
class SquashedGaussian(Distribution):
    """A normal u squashed into the bounds: x = centre + half width · tanh(u) (Haarnoja et al. 2018, appendix C).

    x [..., *space.shape]; mean, log_std of u: float32 [..., D], D = prod(space.shape). `mode` is the squashed mean: the
    median, not the point of highest density. `log_prob(x)` takes x nearer to a bound than 5e-7 of the width, |u| > 7.25,
    as that near. Raises ValueError for a space without finite bounds.
    """

    mean: jax.Array
    log_std: jax.Array
    space: Box = static()

    def __post_init__(self) -> None:
        boxes.bounds(self.space)

    @property
    def normal(self) -> Gaussian:
        """The distribution of u."""
        return Gaussian(self.mean, self.log_std, self.space)

    def sample_and_log_prob(self, key: Key) -> tuple[jax.Array, jax.Array]:
        u, log_prob = self.normal.draw(key)
        return self._squash(u), log_prob - jnp.sum(self._log_slope(u), -1)

    def mode(self) -> jax.Array:
        return self._squash(self.mean)

    def log_prob(self, x: jax.Array) -> jax.Array:
        below, above = boxes.distances(x, self.space)  # artanh by both: 1 - |tanh u| keeps its digits at either bound
        u = 0.5 * (jnp.log(jnp.maximum(below, INSIDE)) - jnp.log(jnp.maximum(above, INSIDE)))
        return self.normal.log_density(u) - jnp.sum(self._log_slope(u), -1)

    def entropy(self) -> jax.Array:
        """H(u) + E[log |dx/du|], by quadrature: within 2e-4 nats an element for std <= 1.6, 2e-3 for e, 0.1 for e²."""

        def weighted(node: jax.Array, weight: jax.Array) -> jax.Array:
            return weight * self._log_slope(self.mean + jnp.exp(self.log_std) * node)

        slope = jax.vmap(weighted)(jnp.asarray(NODES, jnp.float32), jnp.asarray(WEIGHTS, jnp.float32)).sum(0)
        return self.normal.entropy() + jnp.sum(slope, -1)

    def kl(self, other: Self) -> jax.Array:
        return self.normal.kl(other.normal)  # one bijection makes both

    def _squash(self, u: jax.Array) -> jax.Array:
        return boxes.from_unit(jax.nn.sigmoid(2.0 * u), self.space)  # (1 + tanh u) / 2

    def _log_slope(self, u: jax.Array) -> jax.Array:
        """log |dx/du| of each element: [..., D]. The slope is half the width times 1 - tanh² = 4 / (e^u + e^-u)²."""
        far = jnp.abs(u)
        return boxes.like(np.log(2.0 * boxes.bounds(self.space)[1]), u) - 2.0 * (far + jnp.log1p(jnp.exp(-2.0 * far)))


@pytree
class Beta(Distribution):
    """A beta distribution between the bounds (Chou et al. 2017); x [..., *space.shape].

    alpha, beta > 1, for a single peak: float32 [..., D], D = prod(space.shape). `log_prob(x)` takes x nearer to a
    bound than 5e-7 of the width as that near. Raises ValueError for a space without finite bounds.
    """

    alpha: jax.Array
    beta: jax.Array
    space: Box = static()

    def __post_init__(self) -> None:
        boxes.bounds(self.space)

    def sample_and_log_prob(self, key: Key) -> tuple[jax.Array, jax.Array]:
        y = jax.random.beta(key, self.alpha, self.beta, dtype=jnp.float32)
        return boxes.from_unit(y, self.space), self._log_density(y, 1.0 - y)

    def mode(self) -> jax.Array:
        tiny = 1e-8  # the middle where alpha and beta have rounded to 1
        return boxes.from_unit((self.alpha - 1.0 + tiny) / (self.alpha + self.beta - 2.0 + 2 * tiny), self.space)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return self._log_density(*boxes.distances(x, self.space))

    def entropy(self) -> jax.Array:
        a, b, psi = self.alpha, self.beta, jax.scipy.special.digamma
        unit = jax.scipy.special.betaln(a, b) - (a - 1.0) * psi(a) - (b - 1.0) * psi(b) + (a + b - 2.0) * psi(a + b)
        return jnp.sum(unit + self._log_width(), -1)

    def kl(self, other: Self) -> jax.Array:
        a, b, betaln, psi = self.alpha, self.beta, jax.scipy.special.betaln, jax.scipy.special.digamma
        da, db = a - other.alpha, b - other.beta
        norms = betaln(other.alpha, other.beta) - betaln(a, b)
        return jnp.sum(norms + da * psi(a) + db * psi(b) - (da + db) * psi(a + b), -1)

    def _log_density(self, below: jax.Array, above: jax.Array) -> jax.Array:
        """log π where the distances from the bounds are `below` and `above`, in widths."""
        below, above = jnp.maximum(below, INSIDE), jnp.maximum(above, INSIDE)
        kernel = (self.alpha - 1.0) * jnp.log(below) + (self.beta - 1.0) * jnp.log(above)
        return jnp.sum(kernel - jax.scipy.special.betaln(self.alpha, self.beta) - self._log_width(), -1)

    def _log_width(self) -> jax.Array:
        return boxes.like(np.log(boxes.bounds(self.space)[1]), self.alpha)


@pytree
class Joint(Distribution):
    """Independent parts, one for each of the product's spaces; x is what `space.join` makes of theirs."""

    parts: tuple[Distribution, ...]
    space: Product = static()

    def sample_and_log_prob(self, key: Key) -> tuple[PyTree, jax.Array]:
        keys = jax.random.split(key, len(self.parts))
        draws = [part.sample_and_log_prob(k) for part, k in zip(self.parts, keys, strict=True)]
        xs, log_probs = zip(*draws, strict=True)
        return self.space.join(xs), jnp.stack(log_probs).sum(0)

    def mode(self) -> PyTree:
        return self.space.join([part.mode() for part in self.parts])

    def log_prob(self, x: PyTree) -> jax.Array:
        return jnp.stack([part.log_prob(y) for part, y in zip(self.parts, self.space.parts(x), strict=True)]).sum(0)

    def entropy(self) -> jax.Array:
        return jnp.stack([part.entropy() for part in self.parts]).sum(0)

    def kl(self, other: Self) -> jax.Array:
        return jnp.stack([p.kl(q) for p, q in zip(self.parts, other.parts, strict=True)]).sum(0)
