"""hosts.py: one member over several devices and processes is the member that one process trains; two processes, on CPU."""

import json
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.runs import checkpoint, hosts
from tests.small import assert_trees_equal, released

PPO = ("ppo", {"num_envs": 16, "rollout_length": 64})
DQN = ("dqn", {"num_envs": 16, "learning_starts": 500, "replay_capacity": 4000})
HOST = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
import jaxrl
from jaxrl.runs import checkpoint, hosts
address, index, agent, config, out = sys.argv[1:]
hosts.start(address, count=2, index=int(index))
trainer = jaxrl.make_trainer(agent, "CartPole-v1", total_steps=5000, config=json.loads(config), preset="none")
state, metrics = hosts.train(trainer, jax.random.key(7))
shards = [s.data.shape[0] for s in state.obs.addressable_shards]
whole = hosts.collect(state)
again = hosts.collect(hosts.spread(trainer, whole))
assert all(np.array_equal(a, b) for a, b in zip(*(jax.tree.leaves(checkpoint.to_host(x)) for x in (whole, again))))
returns = jaxrl.evaluate(trainer, whole, jax.random.key(1), episodes=4).returns
arrays = dict(enumerate(map(np.asarray, jax.tree.leaves(checkpoint.to_host(whole)))))
np.savez(out, **{f"state{i:04}": x for i, x in arrays.items()}, **{f"row_{k}": np.asarray(v) for k, v in metrics.items()})
print(json.dumps({"devices": jax.device_count(), "shards": shards, "first": hosts.is_first(), "returns": returns.tolist()}))
"""


def trainer_of(agent, config, total_steps=5000):
    return jaxrl.make_trainer(agent, "CartPole-v1", total_steps=total_steps, config=config, preset="none")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory):
    """What two processes of two devices each said, and the arrays that each wrote."""
    folder, address = tmp_path_factory.mktemp("hosts"), f"127.0.0.1:{free_port()}"
    agent, config = PPO
    words = [
        [sys.executable, "-c", HOST, address, str(i), agent, json.dumps(config), str(folder / f"{i}.npz")] for i in (0, 1)
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(each, **pipes) for each in words]
    try:
        printed = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], [err for _, err in printed]
    return [json.loads(out.splitlines()[-1]) for out, _ in printed], [dict(np.load(folder / f"{i}.npz")) for i in (0, 1)]


def test_two_processes_end_alike_each_with_its_share(two_hosts):
    said, (first, second) = two_hosts
    assert [each["devices"] for each in said] == [4, 4] and [each["shards"] for each in said] == [[4, 4], [4, 4]]
    assert [each["first"] for each in said] == [True, False] and said[0]["returns"] == said[1]["returns"]
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], name)


def test_two_processes_train_what_one_trains(two_hosts):
    """Five iterations of PPO, each of sixteen gradient steps: sums in another order, and nothing else."""
    trainer = trainer_of(*PPO)
    state, metrics = jax.jit(trainer.train)(jax.random.key(7))
    found = two_hosts[1][0]
    assert len(metrics["env_steps"]) == 5
    for name in ("env_steps", "episodes"):
        np.testing.assert_array_equal(found[f"row_{name}"], metrics[name])
    for name, row in metrics.items():
        np.testing.assert_allclose(found[f"row_{name}"], row, rtol=1e-3, atol=1e-5, err_msg=name)
    alone = map(np.asarray, jax.tree.leaves(checkpoint.to_host(state)))
    for i, leaf in enumerate(alone):
        np.testing.assert_allclose(found[f"state{i:04}"], leaf, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("agent", "config"), [PPO, *released(DQN)], ids=["ppo", "dqn"])
def test_two_devices_train_what_one_trains(agent, config):
    trainer = trainer_of(agent, config, 3000)
    alone, rows = jax.jit(trainer.train)(jax.random.key(3))
    state, found = hosts.train(trainer, jax.random.key(3))
    np.testing.assert_array_equal(found["episodes"], rows["episodes"])
    for a, b in zip(*(jax.tree.leaves(checkpoint.to_host(x)) for x in (hosts.collect(state), alone)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_environments_and_replay_are_parted_and_parameters_are_not():
    trainer = trainer_of(*DQN)
    state = hosts.programs(trainer)[0](jax.random.key(0))
    parted = jax.tree.leaves((state.env, state.obs, state.first, state.episode))
    assert {x.addressable_shards[0].data.shape[0] for x in parted} == {8}
    assert {x.addressable_shards[0].data.shape[:2] for x in jax.tree.leaves(state.agent.experience.replay.data)} == {
        (250, 8)
    }
    for leaf in jax.tree.leaves((state.agent.learner, state.hparams, state.iteration)):
        assert leaf.sharding.is_fully_replicated and len(leaf.addressable_shards) == 2


@pytest.mark.parametrize("case", [("dqn", DQN[1] | {"prioritized": True}), ("r2d2", DQN[1] | {"torso": "lstm"})])
def test_experience_is_parted_where_it_has_environments(case):
    """Replay and the memories in it, but not the tree of priorities; all that is learnt lies whole on each device."""
    trainer = trainer_of(*case)
    where = hosts.shardings(trainer, hosts.mesh()).agent
    shapes = jax.eval_shape(trainer.init, jax.random.key(0)).agent.experience
    for spec, x in zip(jax.tree.leaves(where.experience), jax.tree.leaves(shapes), strict=True):
        assert spec.is_fully_replicated == (x.shape[1:2] != (16,)) == (x.ndim < 2)
    assert all(spec.is_fully_replicated for spec in jax.tree.leaves(where.learner))


@pytest.mark.parametrize(("agent", "config"), [PPO, DQN], ids=["ppo", "dqn"])
def test_each_device_learns_from_its_share_of_a_batch(agent, config):
    """The floating-point operations of a device are half those of one alone, not as many."""
    trainer = trainer_of(agent, config)
    over = hosts.mesh()
    where = hosts.shardings(trainer, over)
    state = jax.eval_shape(trainer.init, jax.eval_shape(jax.random.key, 0))
    alone = products(jax.jit(trainer.step).lower(state).compile())
    with jax.set_mesh(over):
        shared = products(jax.jit(trainer.step, in_shardings=(where,), out_shardings=(where, None)).lower(state).compile())
    assert shared == alone / 2


def products(compiled):
    """Multiplications of all matrix products of a program, each counted once, however often a loop runs it."""
    import math
    import re

    total, text = 0, compiled.as_text()
    shapes = {name: shape for name, shape in re.findall(r"(%[\w.-]+) = f32\[([\d,]*)\]", text)}
    shapes |= {name: shape for name, shape in re.findall(r"(%?[\w.-]+): f32\[([\d,]*)\]", text)}
    for out, left, contracting in re.findall(
        r"= f32\[([\d,]*)\]\S* dot\((?:f32\S* )?(%[\w.-]+),.*?lhs_contracting_dims=\{(\d+)\}", text
    ):
        size = [int(n) for n in shapes[left].split(",")][int(contracting)]
        total += size * math.prod(int(n) for n in out.split(",") if n)
    return total


def test_a_run_in_parts_is_the_run():
    trainer = trainer_of(*PPO, 4000)
    whole, rows = hosts.train(trainer, jax.random.key(5))
    init, run = hosts.programs(trainer, 2)
    state, first = run(init(jax.random.key(5)))
    state = hosts.spread(trainer, hosts.collect(state))
    state, second = run(state)
    assert_trees_equal(hosts.collect(state), hosts.collect(whole))
    for name in rows:
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), rows[name])


@pytest.mark.parametrize(("num_envs", "nearest"), [(15, "14 or 16"), (1, "2")])
def test_environments_that_cannot_be_parted_are_refused(num_envs, nearest):
    trainer = trainer_of("ppo", {"num_envs": num_envs, "rollout_length": 64})
    with pytest.raises(InputError, match=f"num_envs = {num_envs} cannot be parted among 2 devices; nearest: {nearest}"):
        hosts.train(trainer, jax.random.key(0))


@pytest.mark.parametrize(
    ("address", "count", "index", "message"),
    [
        ("localhost", 2, 0, "must be HOST:PORT"),
        ("localhost:port", 2, 0, "must be HOST:PORT"),
        (":80", 2, 0, "must be HOST:PORT"),
        ("localhost:80", 0, 0, "index = 0 is out of range"),
        ("localhost:80", 2, 2, "index = 2 is out of range"),
        ("localhost:80", 2, -1, "index = -1 is out of range"),
        ("localhost:80", 2, 1, "hosts cannot start: .*before any JAX"),  # this process has computed
    ],
)
def test_impossible_starts_are_refused(address, count, index, message):
    jax.block_until_ready(jax.numpy.zeros(1))
    with pytest.raises(InputError, match=message):
        hosts.start(address, count, index)
