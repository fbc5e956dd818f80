"""Simulators that start anew: what is stored there is gone on with bit for bit, in another process, after kill -9."""

import json

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import EnvSpec
from jaxrl.envs.host import gymnasium as host_gymnasium
from jaxrl.envs.host.pool import Received, Simulators
from jaxrl.envs.host.vec_env import vec_env
from jaxrl.show import render
from jaxrl.sweeps import plan as plans
from tests.command_line import jaxrl_cli, jaxrl_process, kill_after_checkpoints
from tests.small import assert_same_run, assert_trees_equal

WIDTH, EVERY = 2, 6
SETTINGS = {
    "preset": "none",
    "config": {"num_envs": WIDTH, "rollout_length": 3, "updates_per_iteration": 1, "hidden_sizes": (8,)},
}
LAKE = ["q_learning", "--env", "gymnasium:FrozenLake-v1", "--env-kwarg", "restart_every=300", "--preset", "none",
        "--num-envs", 2, "--updates-per-iteration", 250, "--seeds", 3, "--total-steps", 6_000, "--epsilon-start", 0.2,
        "--epsilon-end", 0.2]  # fmt: skip


class Counting:
    """Simulators that count their steps from their seeds on, and never end an episode: obs = (seed mod 1000, steps)."""

    def __init__(self, width):
        self.width = width

    def reset(self, seeds):
        self.obs = np.stack([seeds % 1000, np.zeros(self.width)], 1).astype(np.float32)
        return self.obs.copy()

    def send(self, action):
        self.obs[:, 1] += 1

    def receive(self):
        no = np.zeros(self.width, bool)
        return Received(self.obs.copy(), self.obs.copy(), np.ones(self.width, np.float32), no, no, ~no)

    def close(self):
        pass


def counting(**kwargs):
    return Simulators(EnvSpec("counting", Box((2,), 0, 1000), Discrete(2)), Counting, restart_every=EVERY - 1, **kwargs)


def rows_from(vec, state, count):
    """`count` steps from a state: the state after and (obs before, EnvStep) [count, N, ...]."""

    def one(carry, key):
        env, obs = carry
        env, after, _, out = vec.step(jax.random.split(key, WIDTH), env, (), np.zeros(WIDTH, np.int32), ())
        return (env, after), (obs, out)

    return jax.device_get(jax.lax.scan(one, state, jax.random.split(jax.random.key(1), count)))


def test_simulators_start_anew_at_the_ends_of_iterations():
    """A restart is due every 5 steps, iterations have 3: so after 6, 12, ... New seeds each time; the rows are truncated."""
    vec = vec_env(counting(), WIDTH, 3 * WIDTH)
    assert vec.host.restart_every == EVERY
    _, (obs, out) = rows_from(vec, vec.init(jax.random.key(0), ()), 3 * EVERY)
    steps = np.arange(3 * EVERY)
    assert (obs[:, :, 1] == steps[:, None] % EVERY).all() and (out.obs[:, :, 1] == steps[:, None] % EVERY + 1).all()
    last = steps % EVERY == EVERY - 1
    assert (out.truncated == last[:, None]).all() and (out.cut == last[:, None]).all() and not out.terminated.any()
    seeds = obs[::EVERY, :, 0]
    assert len(np.unique(seeds)) == 3 * WIDTH and (out.obs[:, :, 0] == obs[:, :, 0]).all()


def test_a_state_at_a_restart_can_be_stepped_again_anywhere():
    vec = vec_env(counting(), WIDTH, 3 * WIDTH)
    start = vec.init(jax.random.key(0), ())
    middle, _ = rows_from(vec, start, EVERY)
    once, rows = rows_from(vec, middle, EVERY)
    again, same = rows_from(vec, middle, EVERY)  # its simulators have gone on: others start from its seeds
    assert_trees_equal(rows, same)
    stored = vec.host.stored(middle[0]), middle[1]
    elsewhere = vec_env(counting(), WIDTH, 3 * WIDTH)  # as in another process
    _, there = rows_from(elsewhere, stored, EVERY)
    assert_trees_equal(rows, there)
    assert_trees_equal(vec.host.stored(once[0]), vec.host.stored(again[0]))
    odd, _ = rows_from(vec, middle, EVERY - 1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="of this state of counting are gone: it cannot be gone on with"):
        rows_from(elsewhere, odd, 1)
    assert isinstance(elsewhere.host.failure(), InputError) and elsewhere.host.failure() is None


def test_an_evaluation_never_starts_anew_and_gives_its_simulators_back():
    simulators = counting()
    trainer = jaxrl.make_trainer("a2c", vec_env(simulators, WIDTH), total_steps=60, **SETTINGS)
    state, metrics = jax.device_get(jax.jit(trainer.train)(jax.random.key(0)))
    assert trainer.restart_iterations == 2 and metrics["episodes"].sum() == 0  # what was cut is no episode
    before = set(simulators._running)
    result = jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=40, max_steps=3 * EVERY)
    assert (result.lengths == 3 * EVERY).all() and (result.returns == 3 * EVERY).all() and len(result.returns) == 40
    assert set(simulators._running) == before


class Seen(Counting):
    def frame(self):
        return np.full((600, 800, 3), self.obs[0, 1], np.uint8)


def test_films_show_the_simulators_own_frames():
    vec = vec_env(counting(filmed=lambda: Seen(1)), WIDTH)
    trainer = jaxrl.make_trainer("a2c", vec, total_steps=60, **SETTINGS)
    found = render.record(trainer, jax.jit(trainer.init)(jax.random.key(0)), jax.random.key(1), max_steps=7)
    assert found.states.shape == (8, 256, 341, 3) and (found.states[:, 0, 0, 0] == np.arange(8)).all()
    assert (found.obs[:, 1] == np.arange(8)).all() and found.rewards.shape == (7,) and found.end == "goes on"
    with pytest.raises(InputError, match="counting cannot be recorded: it is a VecEnv without pictures"):
        render.record(jaxrl.make_trainer("a2c", vec_env(counting(), WIDTH), total_steps=60, **SETTINGS), None, None)


def test_members_that_fill_up_step_no_simulators():
    vec = vec_env(counting(), WIDTH, 3 * WIDTH)
    state, obs = jax.device_get(jax.vmap(lambda key: vec.init(key, ()))(jax.random.split(jax.random.key(0), 3)))
    idle = vec.host.idle(state)
    mixed = jax.tree.map(lambda x, y: np.stack([x[0], y[1], x[0]]), state, idle)  # the third is a copy of the first
    keys, action = jax.random.split(jax.random.key(0), WIDTH), np.zeros((3, WIDTH), np.int32)
    after, seen, _, out = jax.vmap(lambda s, a: vec.step(keys, s, (), a, ()))(mixed, action)
    assert seen[0, 0, 1] == 1 and (seen[0] == seen[2]).all() and (seen[1] == 0).all() and not out.valid[1].any()
    assert after.number[0] == after.number[2] == state.number[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("host") / "whole"
    done = jaxrl_cli("train", *LAKE, "--out", out, pictures=True)
    return out, done


def test_a_run_says_what_simulators_cannot_promise(whole):
    out, done = whole
    line = "gymnasium:FrozenLake-v1 is simulated on the host: sameness and exact resume hold as far as a simulator's numbers"
    assert line in done.stderr and "every 500 steps of each" in done.stderr
    assert json.loads((out / "config.json").read_text())["caveat"].startswith(line)
    assert (out / "policy.gif").read_bytes()[:6] == b"GIF89a"
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["episodes"] for row in rows) > 100


def test_killed_and_resumed_is_the_same_run(whole, tmp_path):
    out = tmp_path / "killed"
    kill_after_checkpoints(*LAKE, out=out, count=2)
    at = sorted(int(path.stem) for path in (out / "checkpoints").glob("*.safetensors"))
    assert all(iterations % 2 == 0 for iterations in at)
    jaxrl_cli("resume", out)
    assert_same_run(whole[0], out)


def test_a_run_goes_on_past_its_end_from_the_last_restart(whole, tmp_path):
    """Iterations of 500 steps, a restart after every second: a run that ends after 11 goes on from 10."""
    words = [*LAKE]
    words[words.index("--total-steps") + 1] = 5_500
    jaxrl_cli("train", *words, "--out", tmp_path / "a", "--checkpoint-every", 0)
    checkpoints = sorted((tmp_path / "a" / "checkpoints").glob("*.safetensors"))
    assert [path.stem for path in checkpoints] == ["10", "11"]
    jaxrl_cli("resume", tmp_path / "a", "--total-steps", 6_000)
    assert_same_run(whole[0], tmp_path / "a")


def test_a_sweep_has_the_runs_numbers(whole, tmp_path):
    """Folded pools: two configurations × three seeds on two devices, beside the run of three seeds."""
    words = [*LAKE, "--grid", "learning_rate=0.5,0.1"]
    jaxrl_cli("sweep", *words, "--out", tmp_path / "sweep")
    sweep, run = jaxrl.load(tmp_path / "sweep"), jaxrl.load(whole[0])
    for name in run.metrics:
        np.testing.assert_array_equal(sweep.metrics[name][1], run.metrics[name])


def test_a_simulator_that_fails_ends_the_run_in_one_line(tmp_path):
    (tmp_path / "brittle.py").write_text(BRITTLE)
    words = ["train", *LAKE, "--out", tmp_path / "run", "--checkpoint-every", 0]
    words[words.index("--env") + 1] = f"{tmp_path / 'brittle.py'}:make"
    words[words.index("--env-kwarg") : words.index("--env-kwarg") + 2] = []
    done = jaxrl_process(*words, code=2)  # of its own, for JAX has a word too when a process ends
    last = done.stderr.splitlines()[-1]
    assert last.startswith("jaxrl: error: step of gymnasium:Brittle-v0 raises ZeroDivisionError: the ice broke (")
    assert [*(tmp_path / "run" / "checkpoints").glob("*.safetensors")]


BRITTLE = """
import gymnasium
from gymnasium.envs.toy_text import FrozenLakeEnv
from jaxrl.envs.host import gymnasium as host
from jaxrl.envs.host.vec_env import vec_env


class Brittle(FrozenLakeEnv):
    steps = 0

    def step(self, action):
        Brittle.steps += 1
        if Brittle.steps > 5000:
            raise ZeroDivisionError("the ice broke")
        return super().step(action)


gymnasium.register("Brittle-v0", Brittle, max_episode_steps=100)


def make():
    return vec_env(host.simulators("Brittle-v0", restart_every=200), 1)
"""


def test_names_and_settings_are_checked():
    assert jaxrl.Experiment("ppo", "gymnasium:CartPole-v1").preset == "CartPole-v1"
    with pytest.raises(ValueError, match="unknown Gymnasium environment 'CartPool-v1'; nearest: CartPole-v1"):
        jaxrl.Experiment("ppo", "gymnasium:CartPool-v1")
    with pytest.raises(ValueError, match="making gymnasium:CartPole-v1 raises TypeError"):
        jaxrl.Experiment("ppo", "gymnasium:CartPole-v1", env_kwargs={"nonsense": 3})
    with pytest.raises(ValueError, match=r"'stack_frames\(2\)' is of an Env, and gymnasium:CartPole-v1 is a VecEnv"):
        jaxrl.Experiment("ppo", "gymnasium:CartPole-v1", env_transforms=["stack_frames(2)"])
    with pytest.raises(ValueError, match="restart_every = -1 is out of range: must be >= 0"):
        jaxrl.Experiment("ppo", "gymnasium:CartPole-v1", env_kwargs={"restart_every": -1})
    with pytest.raises(ValueError, match="CartPole-v1 is simulated on the host, where a population's rounds cannot be gone"):
        jaxrl.tune("ppo", "gymnasium:CartPole-v1", method="pbt", total_steps=1000)
    never = plans.make_run(jaxrl.Experiment("ppo", "gymnasium:CartPole-v1", env_kwargs={"restart_every": 0}), 1, 0)
    assert never.caveat.endswith("(restart_every = 0): it has no checkpoint to go on from")
    assert "gymnasium:CartPole-v1" in str(jaxrl.check_env("gymnasium:CartPole-v1"))
    assert host_gymnasium.simulators("CartPole-v1").filmed is not None
