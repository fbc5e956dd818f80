"""Classification: a torso and a linear head learn labels by maximum likelihood, L(θ) = -E[log softmax(f(x; θ))_label].

What its torso learns other agents begin with by `init_from`. An evaluation's return is the accuracy.
"""

from __future__ import annotations

import jax
import optax

from jaxrl.agents.parts import supervised
from jaxrl.agents.parts.supervised import Config, HParams
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Agent, EnvSpec
from jaxrl.networks.supervised import Classifier
from jaxrl.ops import exploration

__all__ = ["Config", "HParams", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Classification of any observation by one integer."""
    seen, labels = supervised.spaces(spec, "classify")
    if not isinstance(labels, Discrete):
        raise InputError(
            f"agent 'classify' needs one integer as the target; {spec.id} has {labels}; use clone or reconstruct"
        )
    network = Classifier(supervised.torso_for(seen, config), labels.n)

    def loss(logits: jax.Array, target: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, target)

    return supervised.agent_of(spec, config, network, loss, exploration.greedy)
