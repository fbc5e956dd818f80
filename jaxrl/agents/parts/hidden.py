"""What every agent with a network shares: settings of its hidden layers, and of the optimiser."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from jaxrl.agents.parts import optimizer
from jaxrl.core.settings import Range
from jaxrl.core.types import Key
from jaxrl.networks.torsos import Layers


@dataclasses.dataclass(frozen=True)
class Config(optimizer.Config):
    """Hidden layers; with the optimiser's settings and LoopConfig's."""

    layer_norm: bool = False
    """Normalise each hidden layer before its activation (of sac and td3: in the critics)."""
    dropout: Annotated[float, Range(low=0, high=0.99)] = 0.0
    """Probability that a hidden unit is left out of a gradient step (of sac and td3: in the critics); not in acting."""


def layers(config: Config, **how: Any) -> Layers:
    """Hidden layers by the Config, and by what else `Layers` takes."""
    return Layers(layer_norm=config.layer_norm, dropout=config.dropout, **how)


def rngs(config: Config, key: Key | None) -> dict[str, Key]:
    """What a network is applied with in a gradient step: the key of its dropout, where it has any."""
    return {"dropout": key} if config.dropout and key is not None else {}
