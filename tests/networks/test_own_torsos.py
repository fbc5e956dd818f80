"""A user's flax Modules as torsos: both protocols, with every policy-gradient agent, and what is refused."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.settings import check
from jaxrl.core.spaces import Box, Discrete
from jaxrl.experiment import experiment as experiments
from jaxrl.experiment import search_space
from jaxrl.networks.memory import GRU
from jaxrl.networks.torsos import TorsoSetting, torso_of
from tests.small import QUICK, of_config, small_trainer

T, N = 4, 3


class Twice(nn.Module):
    """One batch axis, and features with two axes of their own."""

    width: int = 2

    @nn.compact
    def __call__(self, obs):
        (rows, inputs) = obs.shape
        return nn.Dense(inputs * self.width)(obs).reshape(rows, inputs, self.width)


class Counter(nn.Module):
    """Remembers how many steps of the episode came before."""

    def initial(self, num_envs):
        return jnp.zeros(num_envs, jnp.int32)

    @nn.compact
    def __call__(self, memory, obs, first):
        def step(count, first):
            count = jnp.where(first, 0, count)
            return count + 1, count

        memory, counts = jax.lax.scan(step, memory, first)
        return jnp.concatenate([obs, counts[..., None].astype(jnp.float32)], -1), memory


OWN = {"class": Twice, "instance": Twice(3), "sequence": nn.Sequential((nn.Dense(5), nn.relu)), "memory": GRU(6)}


@pytest.mark.parametrize("batch", [(), (N,), (T, N)])
@pytest.mark.parametrize("space", [Box((4,)), Discrete(4)], ids=str)
def test_features_of_an_own_module(space, batch):
    """It sees float32 rows, whatever the leading axes, and a discrete observation as a unit vector."""
    torso = torso_of(Twice(3), space, ())
    obs = jnp.zeros((*batch, *space.shape), space.dtype)
    params = torso.init(jax.random.key(0), (), obs)
    (kernel,) = [x for x in jax.tree.leaves(params) if x.ndim == 2]
    features, memory = torso.apply(params, (), jnp.ones_like(obs))
    one = np.eye(4)[1] if isinstance(space, Discrete) else np.ones(4)
    assert features.shape == (*batch, 12) and memory == () == torso.initial(N) and not torso.remembers
    np.testing.assert_allclose(features, np.broadcast_to(one @ kernel, features.shape), rtol=1e-6)


def test_pixels_are_scaled_for_an_own_module_too():
    torso = torso_of(nn.Sequential((lambda x: x,)), Box((2, 2, 1), 0, 255, jnp.uint8), ())
    features = torso.apply({}, (), jnp.full((N, 2, 2, 1), 51, jnp.uint8))[0]
    np.testing.assert_allclose(features, np.full((N, 4), 0.2), rtol=1e-6)


def test_an_own_memory():
    torso = torso_of(Counter, Box((1,)), ())
    first = jnp.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    features, memory = torso.apply({}, jnp.array([9, 5, 0], jnp.int32), jnp.zeros((T, N, 1)), first)
    np.testing.assert_array_equal(features[..., 1], [[0, 5, 0], [1, 6, 1], [2, 0, 2], [3, 1, 3]])
    np.testing.assert_array_equal(memory, [4, 2, 4])
    assert torso.remembers and torso.initial(2).shape == (2,)


@pytest.mark.parametrize("agent", ["a2c", "ppo", "reinforce"])
@pytest.mark.parametrize("torso", [*OWN, "mlp", "gru", "lstm", "transformer", "minatar"])
def test_every_torso_fits_every_policy_gradient_agent(agent, torso):
    """By shapes; actor and critic have parameters of their own."""
    config = {"torso": OWN.get(torso, torso), "num_minibatches": 1, "rollout_length": 4, "max_episode_length": 8}
    env = "Breakout-MinAtar" if torso == "minatar" else "CartPole-v1"
    trainer = small_trainer(agent, env, config=of_config(agent, config))
    state, metrics = jax.eval_shape(trainer.train, jax.random.key(0))
    network = getattr(state.agent, "learner", state.agent).params["params"]
    assert jax.tree.structure(network["actor"]) == jax.tree.structure(network["critic"])
    assert metrics["loss"].shape == (trainer.num_iterations,)


@pytest.mark.parametrize("torso", ["sequence", "memory"])
def test_an_own_torso_learns(torso):
    """All of its parameters, the actor's and the critic's, move, and differ."""
    trainer = small_trainer("a2c", "CartPole-v1", total_steps=200, config={"torso": OWN[torso]})
    state, _ = jax.jit(trainer.train, compiler_options=QUICK)(jax.random.key(0))
    before, after = trainer.init(jax.random.key(0)).agent.params["params"], state.agent.params["params"]
    for name in ("actor", "critic"):
        for x, y in zip(jax.tree.leaves(before[name]), jax.tree.leaves(after[name]), strict=True):
            assert not np.array_equal(x, y)
    different = [np.any(x != y) for x, y in zip(*map(jax.tree.leaves, (before["actor"], before["critic"])), strict=True)]
    assert any(different)


class Unmade(nn.Module):
    features: int


class Scalar(nn.Module):
    def __call__(self, obs):
        return obs.sum()


class Forgetful(Counter):
    def __call__(self, memory, obs, first):
        return obs, memory[:1]


class Fails(nn.Module):
    def __call__(self, obs):
        raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("grue", "torso = 'grue' is not one of auto, mlp, .*; nearest: gru"),
        (3, "torso = 3 must be a name or a flax.linen.module.Module"),
        (dict, "torso = <class 'dict'> must be a name or a"),
        (Unmade, "torso = Unmade needs arguments, so give an instance: raises TypeError: .*features"),
        (nn.Sequential([nn.Dense(2)]), "torso: Sequential must be hashable; give it tuples, not lists"),
        (Scalar(), r"torso = Scalar raises ValueError: features must be \[6, 'F'\], not \[\]"),
        (Forgetful(), "torso = Forgetful must return a memory of the shapes and dtypes of its initial one"),
        (Fails(), r"torso = Fails raises .*: first line \(.*test_own_torsos.py, line \d+\)$"),
    ],
    ids=str,
)
def test_what_is_no_torso_is_refused_in_one_line(setting, message):
    with pytest.raises(InputError, match=message) as refused:
        torso_of(setting, Box((4,)), (8,))
    assert "\n" not in str(refused.value)


def test_a_named_module_may_have_arguments(tmp_path):
    """Recorded by its whole name, and made again from it; in a grid commas between its arguments part nothing."""
    file = tmp_path / "net.py"
    file.write_text(NET)
    name = f"{file}:Wide(3, slope=0.5)"
    experiment = jaxrl.Experiment("a2c", "CartPole-v1", config={"torso": name}, total_steps=1000)
    assert (experiment.config.torso.width, experiment.config.torso.slope) == (3, 0.5)
    written = json.loads(json.dumps(experiment.to_json()))
    assert written["config"]["torso"] == name and list(written["sources"]) == [f"{file}:Wide"]
    assert experiments.from_json(written) == experiment
    axes = search_space.read_axes(experiment, {"torso": f"{name},{file}:Wide(4),mlp"}, ranges=False)
    assert axes["torso"].values == (name, f"{file}:Wide(4)", "mlp")
    with pytest.raises(InputError, match=r"torso '.*net.py:Wide\(3, high=4\)': got an unexpected keyword argument 'high'"):
        jaxrl.Experiment("a2c", "CartPole-v1", config={"torso": f"{file}:Wide(3, high=4)"})


NET = """
import flax.linen as nn


class Wide(nn.Module):
    width: int
    slope: float = 1.0

    @nn.compact
    def __call__(self, obs):
        return nn.leaky_relu(nn.Dense(self.width)(obs), self.slope)
"""


def test_a_module_passes_as_a_setting():
    for setting in (*OWN.values(), "gru"):
        assert check("torso", setting, TorsoSetting) is setting
