"""Noisy linear layers (Fortunato et al. 2018): exploration by noise on the weights, whose size is learnt."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core.types import Scalar


class NoisyDense(nn.Module):
    """y = (μ + σ ⊙ f(ε_in) f(ε_out)ᵀ) x + (μ_b + σ_b ⊙ f(ε_out)), f(x) = sign(x) √|x| (equations 9–11, factorised noise).

    The noise is drawn from the rng stream "noise", one draw for all leading axes of x; without that stream it is 0 and the
    layer is its mean. sigma: σ₀, both σ start at σ₀ / √fan_in; μ starts as `kernel_init` says, μ_b at 0.
    """

    features: int
    kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()
    sigma: Scalar = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]

        def sigma_init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jnp.full(shape, self.sigma / fan_in**0.5, jnp.float32)

        kernel = self.param("kernel", self.kernel_init, (fan_in, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        sigma_w = self.param("sigma_w", sigma_init, (fan_in, self.features))
        sigma_b = self.param("sigma_b", sigma_init, (self.features,))
        e_in, e_out = self._noise(fan_in)
        bias = bias + sigma_b * e_out
        if x.ndim == 1:  # noise of its own for one input (a vmapped actor): a product is cheaper than a noisy matrix
            return x @ kernel + ((x * e_in) @ sigma_w) * e_out + bias
        y = x @ (kernel + sigma_w * (e_in[:, None] * e_out[None, :]))
        return y + jnp.broadcast_to(bias, y.shape)

    def _noise(self, fan_in: int) -> tuple[jax.Array, jax.Array]:
        """f(ε_in) and f(ε_out)."""
        if not self.has_rng("noise"):
            return jnp.zeros(fan_in, jnp.float32), jnp.zeros(self.features, jnp.float32)
        noise = jax.random.normal(self.make_rng("noise"), (fan_in + self.features,), jnp.float32)
        scaled = jnp.sign(noise) * jnp.sqrt(jnp.abs(noise))
        return scaled[:fan_in], scaled[fan_in:]
