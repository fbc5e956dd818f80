"""Expected SARSA: the expectation over the next action instead of a draw (van Seijen et al. 2009).

Sutton & Barto, 2nd ed., equation 6.9:

    Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) Σ_a' π(a' | s') Q(s', a') - Q(s, a)]

with π the behaviour policy at the present values, and at the ε of the clock at which is learnt. It learns what SARSA
learns, without the variance of a'. At ε = 0 it is Q-learning.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxrl.agents.parts.tabular import Config, HParams, State, td_agent
from jaxrl.core.types import Agent, EnvSpec

__all__ = ["Config", "HParams", "State", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Expected SARSA for discrete observations and actions."""
    return td_agent(spec, config, "expected_sarsa", lambda policy, q: jnp.sum(policy(q) * q))
