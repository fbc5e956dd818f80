"""SARSA: on-policy temporal-difference control in a table (Rummery & Niranjan 1994; Sutton & Barto, 2nd ed., section 6.4).

    Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) Q(s', a') - Q(s, a)]

with a' the action executed in s', so that what is learnt is the value of the behaviour policy, its exploration included:
on a cliff it keeps away from the edge. It is n-step SARSA with n = 1, and that file says how a' is waited for, and what
stands in for it where an episode is truncated.
"""

from __future__ import annotations

from jaxrl.agents import n_step_sarsa
from jaxrl.agents.parts.tabular import Config, HParams
from jaxrl.core.types import Agent, EnvSpec

__all__ = ["Config", "HParams", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """SARSA for discrete observations and actions."""
    return n_step_sarsa.build(spec, config, n=1, name="sarsa")
