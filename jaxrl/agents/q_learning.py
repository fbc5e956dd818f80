"""Q-learning: off-policy temporal-difference control in a table (Watkins 1989; Sutton & Barto, 2nd ed., section 6.5).

    Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a)]

whatever the behaviour policy, ε-greedy or Boltzmann: what is learnt is the greedy policy's value.
"""

from __future__ import annotations

from jaxrl.agents.parts.tabular import Config, HParams, State, td_agent
from jaxrl.core.types import Agent, EnvSpec

__all__ = ["Config", "HParams", "State", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Q-learning for discrete observations and actions."""
    return td_agent(spec, config, "q_learning", lambda policy, q: q.max())
