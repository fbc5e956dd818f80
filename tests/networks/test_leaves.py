"""Names of leaves are the same for every agent; patterns match whole words of them."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.networks import leaves
from tests.small import AGENTS, config_names, small_trainer

PARTS = {  # what comes before the first module of a network, of agents by their networks
    "of values": ({"torso", "head"}, ["dqn", "neural_bandit", "pqn", "r2d2"]),
    "of an actor and a critic": (
        {"actor/torso", "actor/head", "critic/torso", "critic/head"}, ["a2c", "ppo", "reinforce", "sac", "td3"]
    ),
}  # fmt: skip


def names_of(agent, **config):
    trainer = small_trainer(agent, config=config)
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    return list(leaves.named(trainer.agent.params(state.agent)))


@pytest.mark.parametrize("kind", PARTS)
def test_every_agents_parts_have_the_same_names(kind):
    parts, agents = PARTS[kind]
    for agent in agents:
        bare = {"critic/torso"} if agent in ("sac", "td3") else set()  # of vectors theirs has no layer: actions join before
        names = [name for name in names_of(agent) if "/" in name]
        assert {"/".join(name.split("/")[: len(next(iter(parts)).split("/"))]) for name in names} | bare == parts, agent
        assert len(set(names)) == len(names)


def test_every_agent_with_a_network_is_among_them():
    listed = {agent for _, agents in PARTS.values() for agent in agents}
    assert listed == {agent for agent in AGENTS if "torso" in config_names(agent)} - {"clone", "classify", "reconstruct"}


def test_a_torso_is_called_alike_with_and_without_a_memory_and_under_a_transform():
    plain = "actor/torso/MLP_0/Dense_0/kernel"
    assert plain in names_of("ppo") and plain in names_of("ppo", normalize_observations=True)
    assert plain in names_of("ppo", torso="gru", hidden_sizes=(8, 8), num_minibatches=1)
    assert "observations/mean" in names_of("ppo", normalize_observations=True)
    assert "torso/MLP_0/Dense_0/kernel" in names_of("dqn") and "actor/torso/MLP_0/Dense_0/kernel" in names_of("sac")


def test_parts_of_an_observation_are_called_alike():
    """A CNN among them too, whichever module it lies in."""

    def step(key, state, action, params):
        return state, EnvStep(reset(key, params)[1], jnp.float32(0), jnp.bool_(True), jnp.bool_(False))

    def reset(key, params):
        return jnp.int32(0), {"image": jnp.zeros((10, 10, 1)), "x": jnp.zeros(2)}

    space = Product.of(image=Box((10, 10, 1)), x=Box((2,)))
    env = Env(EnvSpec("Parts", space, Discrete(2)), (), reset, step)
    convolution = "torso/Torso_0/MinAtarCNN_0/Conv_0/kernel"
    for agent, before in (("dqn", ""), ("ppo", "actor/"), ("sac", "actor/")):
        trainer = small_trainer(agent, env, config={"torso": "minatar"})
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        assert before + convolution in leaves.named(trainer.agent.params(state.agent)), agent


@pytest.mark.parametrize(
    "name,pattern,expected",
    [
        ("actor/torso/MLP_0/Dense_0/kernel", "torso", True),
        ("actor/torso/MLP_0/Dense_0/kernel", "torso*", True),
        ("actor/torso/MLP_0/Dense_0/kernel", "actor/torso", True),
        ("actor/torso/MLP_0/Dense_0/kernel", "actor", True),
        ("actor/torso/MLP_0/Dense_0/kernel", "*/bias", False),
        ("actor/torso/MLP_0/Dense_0/kernel", "actor/head", False),
        ("actor/torso/MLP_0/Dense_0/kernel", "tors", False),
        ("actor/torso/MLP_0/Dense_0/kernel", "Dense_?", True),
        ("torso/kernel", "actor", False),
        ("log_temperature", "*", True),
    ],
)
def test_patterns(name, pattern, expected):
    assert leaves.matches(name, pattern) is expected


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(InputError, match="freeze 'hed' matches no leaf of the agent; there are actor/head, torso"):
        leaves.check_patterns("freeze", ["hed"], ["actor/head/kernel", "actor/head/bias", "torso/kernel"])
