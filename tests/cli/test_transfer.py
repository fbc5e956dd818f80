"""Pre-training and fine-tuning from the command line: killed and gone on with bit for bit, and foreign weights."""

import json

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.networks import resnet
from jaxrl.runs import weights
from tests.command_line import assert_killed_ends_as_whole, flags, jaxrl_cli
from tests.networks import torchvision_resnet18 as torchvision
from tests.networks.test_resnet import written
from tests.small import released


def test_fine_tuning_killed_ends_as_whole(tmp_path):
    """With frozen leaves that thaw half-way, KL to the first policy, which a resume has to remember, and dropout."""
    jaxrl_cli(*flags("ppo", 1_000), "--out", tmp_path / "source")
    tuned = ["--freeze", "actor/torso", "--unfreeze-at", 0.5, "--kl-to-init", 0.1, "--dropout", 0.1]
    words = [*flags("ppo", 20_000)[1:], *tuned, "--init-from", tmp_path / "source"]
    assert_killed_ends_as_whole(*words, folder=tmp_path)
    table = json.loads((tmp_path / "whole" / "config.json").read_text())["initial"]["leaves"]
    assert {row["state"] for row in table} == {"loaded"}


@pytest.mark.parametrize("agent", released("classify"))
def test_pretraining_killed_ends_as_whole(agent, tmp_path):
    """With what early stopping has seen: it counts evaluations of the process that was killed too."""
    words = [
        agent,
        "--env",
        "dataset:digits",
        "--hidden-sizes",
        16,
        "--dropout",
        0.2,
        "--total-steps",
        200_000,
        "--seeds",
        2,
    ]
    assert_killed_ends_as_whole(*words, "--eval-every", 2_000, "--patience", 6, "--keep-best", folder=tmp_path)
    summary = json.loads((tmp_path / "killed" / "summary.json").read_text())
    assert summary["stopped"].startswith("no better than")


def pixels(shape=(32, 32, 3)):
    def reset(key, params):
        return jax.numpy.int32(0), jax.numpy.zeros(shape, jax.numpy.uint8)

    def step(key, state, action, params):
        return state, EnvStep(reset(key, params)[1], jax.numpy.float32(0), jax.numpy.bool_(True), jax.numpy.bool_(False))

    return Env(EnvSpec("Pixels", Box(shape, 0, 255, jax.numpy.uint8), Discrete(2)), (), reset, step)


def test_torchvisions_weights_go_under_dqn_and_ppo(tmp_path):
    """By shapes and arrays; that features are torchvision's is tested with the network."""
    arrays, file = torchvision.state_dict(), tmp_path / "resnet18.safetensors"
    written(arrays, file)
    expected = resnet.from_torchvision(arrays)
    small = {"torso": "resnet18_frozen_bn", "hidden_sizes": (4,), "num_envs": 1}
    for agent, networks, more in (
        ("dqn", [""], {"replay_capacity": 100, "batch_size": 4, "learning_starts": 10}),
        ("ppo", ["actor/", "critic/"], {"rollout_length": 4}),
    ):
        experiment = jaxrl.Experiment(agent, pixels(), config=small | more, init_from=file, preset="none")
        found = weights.loaded(experiment, experiment.trainer(), np.array([0])).leaves
        assert len(found) == len(networks) * len(expected)
        for name, x in expected.items():
            for network in networks:
                np.testing.assert_array_equal(found[f"{network}torso/ResNet18_0/{name}"][0], x)
    other = jaxrl.Experiment("ppo", pixels(), config=small | more | {"torso": "mlp"}, init_from=file, preset="none")
    with pytest.raises(InputError, match="no leaf of it fits the agent; it has torso/ResNet18_0/"):
        weights.rows(other, other.trainer())


def test_files_that_are_cut_or_ours_are_refused(tmp_path):
    jaxrl_cli(*flags("q_learning", 1_000), "--out", tmp_path / "table")
    checkpoint = next((tmp_path / "table" / "checkpoints").iterdir())
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:100])
    for file, message in (
        (tmp_path / "cut.safetensors", "is no whole safetensors file"),
        (checkpoint, "is a checkpoint of jaxrl: give the directory of its run"),
    ):
        done = jaxrl_cli(*flags("ppo", 1_000), "--init-from", file, "--out", tmp_path / "out", code=2)
        assert message in done.stderr and len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
