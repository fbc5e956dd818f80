"""Agents that learn from examples: one step of each by NumPy, memory where it is needed, and `jaxrl pretrain`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import datasets
from jaxrl.agents import classify, clone, reconstruct
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.experiment import registry
from jaxrl.networks import leaves
from tests.command_line import jaxrl_cli
from tests.small import QUICK

START = Clock(jnp.int32(0), jnp.float32(0))
INPUT = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]], np.float32)
LINEAR = {"hidden_sizes": (), "torso": "mlp", "optimizer": "sgd", "num_envs": 2}


def stepped(module, space, target, **config):
    """An agent's leaves before and after one step of size 1 down the loss of two examples, and that loss."""
    spec = EnvSpec("Examples", Product.of(input=Box((3,)), target=space), space)
    agent, hp = module.make(spec, module.Config(**LINEAR, **config)), module.HParams(learning_rate=1.0, max_grad_norm=1e9)
    state = agent.init(jax.random.key(0), hp)
    obs = {"input": jnp.asarray(INPUT)[None], "target": jnp.asarray(target)[None]}
    flags, numbers = jnp.ones((1, 2), bool), jnp.zeros((1, 2))
    steps = Transition(obs, flags, jnp.asarray(target)[None], numbers, flags, ~flags, obs, (), flags)
    after, metrics = agent.learn(hp, state, Rollout(steps, agent.memory(2)), START, jax.random.key(1))
    shown = [agent.greedy(hp, state, (), {"input": obs["input"][0], "target": t}, flags[0], jax.random.key(2))[0]
             for t in (obs["target"][0], 0 * obs["target"][0])]  # fmt: skip
    np.testing.assert_array_equal(*shown)  # what it should answer it is not shown
    before, after = (leaves.named(agent.params(s)) for s in (state, after))
    return before, after, float(metrics["loss"].value)


@pytest.mark.parametrize("module,head", [(classify, "head/Dense_0"), (clone, "actor/head/Dense_0")])
def test_likelihoods_of_integers_by_hand(module, head):
    """Softmax regression: W moves by -xᵀ(p - y), b by -(p - y), means over examples."""
    before, after, loss = stepped(module, Discrete(4), np.array([3, 1]))
    kernel, bias = np.asarray(before[f"{head}/kernel"]), np.asarray(before[f"{head}/bias"])
    logits = INPUT @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = np.eye(4)[[3, 1]]
    np.testing.assert_allclose(loss, -np.log((p * y).sum(1)).mean(), rtol=1e-5)
    np.testing.assert_allclose(after[f"{head}/kernel"], kernel - INPUT.T @ (p - y) / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after[f"{head}/bias"], bias - (p - y).mean(0), rtol=1e-4, atol=1e-6)


def test_a_gaussian_policy_by_hand():
    """-log N(a; μ, 1): the mean's bias moves by mean(a - μ), and the loss is ½ (a - μ)² + ½ log 2π for each number."""
    target = np.array([[0.5, 1.0], [-1.0, 2.0]], np.float32)
    before, after, loss = stepped(clone, Box((2,)), target, box_policy="gaussian")
    head = "actor/head/Dense_0"
    error = target - (INPUT @ np.asarray(before[f"{head}/kernel"]) + np.asarray(before[f"{head}/bias"]))
    np.testing.assert_allclose(loss, (0.5 * error**2 + 0.5 * np.log(2 * np.pi)).sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(after[f"{head}/bias"] - before[f"{head}/bias"], error.mean(0), rtol=1e-4)


def test_reconstruction_by_hand():
    """Without layers the decoder is linear: b moves by the mean of 2 (x - x̂) / 3 numbers."""
    before, after, loss = stepped(reconstruct, Box((3,)), INPUT)
    drawn = INPUT @ np.asarray(before["decoder/Dense_0/kernel"]) + np.asarray(before["decoder/Dense_0/bias"])
    np.testing.assert_allclose(loss, ((drawn - INPUT) ** 2).mean(), rtol=1e-5)
    moved = after["decoder/Dense_0/bias"] - before["decoder/Dense_0/bias"]
    np.testing.assert_allclose(moved, (2 * (INPUT - drawn) / 3).mean(0), rtol=1e-4)


def test_recorded_bounds_have_a_likelihood():
    """A squashed Gaussian's density at its bounds is 0 or infinite: actions there move inside by a thousandth."""
    space = Box((2,), (-1.0, 0.0), (1.0, 4.0))
    found = clone.within(jnp.array([[-1.0, 4.0], [0.5, 2.0]]), space)
    np.testing.assert_allclose(found, [[-0.998, 3.996], [0.5, 2.0]], rtol=1e-6)
    _, _, loss = stepped(clone, space, np.array([[-1.0, 4.0], [1.0, 0.0]], np.float32))
    assert np.isfinite(loss)


@pytest.fixture(scope="module")
def cues(tmp_path_factory):
    """60 episodes of 3 steps: 0 or 1 is seen first, then 2; the action is what was seen first."""
    spec = EnvSpec("Cues", Discrete(3), Discrete(2))
    episodes = [
        datasets.Episode(
            np.array([i % 2, 2, 2, 2], np.int32), np.full(3, i % 2, np.int32), np.zeros(3, np.float32),
            np.array([False, False, True]), np.zeros(3, bool),
        )
        for i in range(60)
    ]  # fmt: skip
    out = tmp_path_factory.mktemp("cues") / "data"
    info = datasets.Info("Cues", spec.observation_space, spec.action_space)
    datasets.write_episodes(out, info, episodes)
    return out


@pytest.mark.parametrize("torso,most,least", [("gru", 1.0, 0.99), ("mlp", 0.75, 0.5)])
def test_only_a_memory_clones_what_depends_on_the_past(torso, most, least, cues):
    """Without one the first of three actions can be known, and half of the others guessed: 2/3."""
    config = {"torso": torso, "hidden_sizes": (16,), "num_envs": 16, "rollout_length": 6}
    options = {"config": config, "hparams": {"learning_rate": 1e-2}, "env_kwargs": {"sequences": True}}
    trainer = jaxrl.make_trainer("clone", f"dataset:{cues}", total_steps=30_000, **options)
    state, _ = jax.jit(trainer.train, compiler_options=QUICK)(jax.random.key(0))
    result = jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=64, split="test")
    share = float(result.returns.mean() / 3)
    assert least <= share <= most


def test_pretraining_is_a_training_that_another_begins_with(tmp_path):
    """By the command line: validation, early stopping, the best policy kept, one return for each split."""
    out = tmp_path / "digits"
    words = ["--total_timesteps", "4e4", "--hidden-sizes", "32", "--patience", "2", "--json"]
    done = jaxrl_cli("pretrain", "classify", "--data", "digits", *words, "--out", out)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["splits"]["test"]["mean"] > 0.85 and said["final_return"] == said["splits"]["test"]
    config = json.loads((out / "config.json").read_text())
    assert config["callbacks"] == ["stop_early(2)", "keep_best"] and config["eval_every"] == 2000
    experiment = jaxrl.Experiment(
        "ppo", "DigitsBandit", config={"hidden_sizes": (32,), "activation": "relu"}, init_from=out / "best", preset="none"
    )
    trainer, states = jaxrl.load(out, best=True)
    expected = leaves.named(trainer.agent.params(states.agent))
    from jaxrl.runs import weights

    found = weights.loaded(experiment, experiment.trainer(), np.array([0])).leaves
    assert {name.partition("/")[0] for name in found} == {"actor", "critic"}
    for name, x in found.items():
        np.testing.assert_array_equal(x, expected[name.partition("/")[2]])


REFUSED = {
    "unknown kind of pretrain 'clasify'; nearest: classify": ["clasify", "--data", "digits"],
    "jaxrl pretrain clone needs --data": ["clone"],
    "--env and --data: jaxrl pretrain learns from --data alone": ["clone", "--data", "digits", "--env", "CartPole-v1"],
    "--total-steps = abc must be an integer": ["classify", "--data", "digits", "--total_steps", "abc"],
    "agent 'reconstruct' needs a box of floats": None,
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_is_one_line(message, tmp_path):
    words = REFUSED[message] or ["classify", "--data", "nowhere"]
    done = jaxrl_cli("pretrain", *words, "--out", tmp_path / "out", code=2)
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
    if REFUSED[message]:
        assert message in done.stderr


@pytest.mark.parametrize("agent", ["clone", "classify", "reconstruct"])
def test_an_environment_without_examples_is_refused(agent):
    factory = registry.find_agent(agent)[1]
    with pytest.raises(InputError, match=f"agent '{agent}' learns from examples: give --env dataset:PATH"):
        factory.make(registry.find_env("CartPole-v1").spec, factory.Config())
