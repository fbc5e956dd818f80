"""transfer/record.py: whole episodes, the policy asked for, and no more short ones than there are."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep
from tests.command_line import jaxrl_cli
from tests.small import small_trainer

STATES, ACTIONS, LONG = 10, 3, 40


class Lasting(NamedTuple):
    left: jax.Array


def one_or_many() -> Env:
    """Episodes of 1 or of LONG steps, each as likely; a step pays 1."""

    def reset(key, params):
        return Lasting(jnp.where(jax.random.bernoulli(key), LONG, 1)), jnp.int32(0)

    def step(key, state, action, params):
        return Lasting(state.left - 1), EnvStep(jnp.int32(0), jnp.float32(1), state.left <= 1, jnp.bool_(False))

    return Env(EnvSpec("OneOrMany", Discrete(1), Discrete(2)), (), reset, step)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of Q-learning in RandomGame, whose next state follows from state and action."""
    out = tmp_path_factory.mktemp("trained") / "run"
    words = (
        "--total-steps",
        2000,
        "--seeds",
        2,
        "--seed",
        5,
        "--preset",
        "none",
        "--epsilon-start",
        0.5,
        "--epsilon-end",
        0.5,
    )
    jaxrl_cli("train", "q_learning", "--env", "RandomGame", *words, "--out", out)
    return out


def q_table(trained, member):
    trainer, states = jaxrl.load(trained)
    state = jaxrl.member(states, member)
    return np.asarray(trainer.agent.values(state.hparams, state.agent, jnp.arange(STATES)))


@pytest.fixture(scope="module")
def greedy(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("greedy") / "data"
    return jaxrl.record(trained, steps=3000, out=out, member=1), jaxrl.datasets.read(out)


def test_episodes_are_whole_and_follow_the_game(greedy):
    said, data = greedy
    assert len(data) == said["steps"] and len(data.lengths) == said["episodes"]
    assert 3000 <= len(data) < 3000 + data.lengths[-1]  # up to the end of the episode with which it is enough
    np.testing.assert_array_equal(data.next_obs, (data.obs + data.action) % STATES)
    np.testing.assert_array_equal(data.reward, data.next_obs % 2)
    np.testing.assert_array_equal(data.terminated, data.reward == 0)
    last = np.flatnonzero(data.terminated | data.truncated)
    np.testing.assert_array_equal(last, np.cumsum(data.lengths) - 1)
    np.testing.assert_array_equal(data.truncated[last], data.lengths == 100)
    assert said["mean_return"] == pytest.approx(np.bincount(data.episode, data.reward).mean())


def test_greedy_actions_are_those_of_the_table(trained, greedy):
    data = greedy[1]
    np.testing.assert_array_equal(data.action, q_table(trained, 1)[data.obs].argmax(-1))
    assert (data.info.env, data.info.agent, data.info.policy, data.info.seeds) == (
        "RandomGame",
        "q_learning",
        "greedy",
        (6,),
    )
    assert data.info.env_params == {"max_steps_in_episode": 100}


def test_a_share_of_random_actions_is_mixed_in(trained, tmp_path):
    """Other than greedy are ε (1 - 1 / A) of them, within 5 standard deviations; and each of the others as often."""
    jaxrl.record(trained, steps=6000, out=tmp_path, policy="epsilon=0.3")
    data = jaxrl.datasets.read(tmp_path)
    table, n = q_table(trained, 0), len(data)
    away = (data.action - table[data.obs].argmax(-1)) % ACTIONS
    for other in (1, 2):
        assert abs((away == other).mean() - 0.1) < 5 * np.sqrt(0.1 * 0.9 / n)


def test_the_behaviour_policy_is_that_of_training(trained, tmp_path):
    """Q-learning's own ε = 0.5 at the end of training."""
    jaxrl.record(trained, steps=6000, out=tmp_path, policy="behaviour")
    data = jaxrl.datasets.read(tmp_path)
    share = (data.action != q_table(trained, 0)[data.obs].argmax(-1)).mean()
    assert abs(share - 0.5 * 2 / 3) < 5 * np.sqrt(1 / 3 * 2 / 3 / len(data))


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        jaxrl.record(trained, episodes=5, out=tmp_path / name, seed=seed)
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b and a != c and len(jaxrl.datasets.read(tmp_path / "a").lengths) == 5


@pytest.fixture(scope="module")
def lasting():
    trainer = small_trainer("q_learning", one_or_many(), total_steps=1000)
    return trainer, trainer.init(jax.random.key(0))


@pytest.mark.parametrize("asked", [{"episodes": 400}, {"steps": 8200}])
def test_short_episodes_are_as_many_as_there_are(asked, lasting, tmp_path):
    """Half of them, within 5 standard deviations; and the mean return is that of an evaluation."""
    jaxrl.record(lasting, out=tmp_path, **asked)
    data = jaxrl.datasets.read(tmp_path)
    count = len(data.lengths)
    assert set(data.lengths.tolist()) == {1, LONG} and count > 300
    assert abs((data.lengths == 1).mean() - 0.5) < 5 * np.sqrt(0.25 / count)
    returns = np.asarray(jaxrl.evaluate(*lasting, jax.random.key(1), 400).returns)
    error = np.sqrt(returns.var() / 400 + data.returns.var() / count)
    assert abs(data.returns.mean() - returns.mean()) < 5 * error


def test_few_steps_are_not_of_short_episodes_only(lasting, tmp_path):
    """Of 6 recordings of one step each, whose only episode is as likely long, some are long: 2 ** -6 that none were."""
    first = []
    for seed in range(6):
        jaxrl.record(lasting, out=tmp_path / str(seed), steps=1, seed=seed)
        first += jaxrl.datasets.read(tmp_path / str(seed)).lengths.tolist()
    assert len(first) == 6 and set(first) == {1, LONG}


def test_episodes_without_an_end_are_refused(lasting, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxrl.transfer.record.MAX_STEPS", LONG - 10)
    monkeypatch.setattr("jaxrl.transfer.record.CHUNK", 8)
    with pytest.raises(InputError, match="an episode of OneOrMany has not ended after 30 steps"):
        jaxrl.record(lasting, out=tmp_path / "new", episodes=64)


def test_simulators_on_the_host_are_recorded(tmp_path):
    """CartPole of Gymnasium: a step pays 1, and what was seen last lies outside where it terminated."""
    trainer = small_trainer("dqn", "gymnasium:CartPole-v1", total_steps=200)
    state = trainer.init(jax.random.key(0))
    said = jaxrl.record((trainer, state), out=tmp_path, episodes=6, policy="epsilon=1")
    data = jaxrl.datasets.read(tmp_path)
    assert said["episodes"] == 6 and (data.returns == data.lengths).all() and data.terminated.sum() == 6
    gone = (np.abs(data.next_obs[:, 0]) > 2.4) | (np.abs(data.next_obs[:, 2]) > 0.2095)
    np.testing.assert_array_equal(gone, data.terminated)
    assert (np.abs(data.obs[data.starts]) <= 0.05).all()


def test_the_command_says_what_it_wrote(trained, tmp_path):
    said = jaxrl_cli("record", trained, "--episodes", 3, "--out", tmp_path / "a", "--json").stdout
    found = json.loads(said.splitlines()[-1])
    data = jaxrl.datasets.read(tmp_path / "a")
    assert found == {"out": str(tmp_path / "a"), "steps": len(data), "episodes": 3, "mean_return": data.returns.mean()}
    lines = jaxrl_cli("record", trained, "--episodes", 3, "--out", tmp_path / "a", "--overwrite").stdout.splitlines()
    assert (
        lines[0].startswith(f"{len(data):,} steps in 3 episodes, mean return ") and lines[1] == f"dataset {tmp_path / 'a'}"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give either steps or episodes"),
        (("--steps", 10, "--episodes", 2), "give either steps or episodes"),
        (("--steps", 0), "steps = 0 is out of range: must be >= 1"),
        (("--steps", 10, "--policy", "gredy"), "unknown policy 'gredy'; nearest: greedy"),
        (("--steps", 10, "--policy", "epsilon=2"), "epsilon = 2.0 is out of range: must be >= 0 and <= 1"),
        (("--steps", 10, "--policy", "epsilon=x"), "epsilon = x must be a number"),
        (("--steps", 10, "--member", 2), "member = 2 is out of range"),
        (("--steps", 10, "--format", "hdf5"), "hdf5"),
        (("--steps", 10, "--best"), "keep_best"),
        (("--stesp", 10), "unknown flag '--stesp' of jaxrl record; nearest: --steps"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(words, said, trained, tmp_path):
    done = jaxrl_cli("record", trained, "--out", tmp_path / "new", *words, code=2)
    assert said in done.stderr and len(done.stderr.splitlines()) == 1 and not (tmp_path / "new").exists()


def test_folders_that_are_no_place_are_refused(trained, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("")
    for source, out, said in (
        (trained, tmp_path / "x", "is not empty, and no dataset"),
        (trained, trained, "is not empty, and no dataset"),
        (tmp_path / "none", tmp_path / "new", "no jaxrl directory"),
        (tmp_path / "x", tmp_path / "new", "it has no config.json"),
    ):
        done = jaxrl_cli("record", source, "--steps", 5, "--out", out, code=2)
        assert said in done.stderr and len(done.stderr.splitlines()) == 1
    with pytest.raises(InputError, match="a policy is made of a directory, a result or"):
        jaxrl.record(7, steps=5, out=tmp_path / "new")
