"""Numbers and names as people type them, and what `jaxrl list` and `jaxrl check` print."""

import json
from pathlib import Path

import pytest

from jaxrl.cli import flags
from jaxrl.cli import main as cli
from jaxrl.cli.options import TrainOptions
from jaxrl.core.errors import InputError
from jaxrl.core.settings import read
from jaxrl.experiment import registry, search_space
from jaxrl.experiment.experiment import Experiment

pytestmark = pytest.mark.usefixtures("keep_platform")


def known(agent):
    factory = registry.named_agent(agent)[1]
    return flags.fields(factory.Config) | flags.fields(factory.HParams) | flags.fields(TrainOptions)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--total-steps 1e6 --seeds 1_0", "--total-steps 1000000 --seeds 10"),
        ("--total-steps=2.5e3", "--total-steps 2500"),
        ("--hidden-sizes 64x64 --double", "--hidden-sizes 64 64 --double"),
        ("--hidden-sizes 1e2 64", "--hidden-sizes 100 64"),
        ("--hidden_sizes=32,16", "--hidden-sizes 32 16"),
        ("--lr 1e-3", "--learning-rate 1e-3"),
        ("--lr=1e-3 --buffer-size 1e4", "--learning-rate 1e-3 --replay-capacity 10000"),
        ("--batch-size 32 --exploration-fraction 0.1", "--batch-size 32 --epsilon-fraction 0.1"),
        ("--env-id A --total-timesteps 5e4", "--env A --total-steps 50000"),
        ("--out 1e6 --env-kwarg map_name=4x4", "--out 1e6 --env-kwarg map_name=4x4"),  # no number
    ],
)
def test_flags_are_read_as_people_type_them(typed, meant):
    assert flags.spelled(typed.split(), known("dqn"), "jaxrl train") == meant.split()


def test_names_of_other_libraries():
    assert flags.spelled(["--ent-coef", "0.1", "--n-steps", "1e2"], known("ppo"), "") == [
        "--entropy-coef", "0.1", "--rollout-length", "100",
    ]  # fmt: skip
    with pytest.raises(InputError, match="'alpha' of jaxrl train dqn may mean temperature or priority_exponent: give one"):
        flags.spelled(["--alpha", "1"], known("dqn"), "jaxrl train dqn")
    base = Experiment("dqn", "CartPole-v1", total_steps=20_000)
    assert search_space.read_axes(base, {"lr": "1e-4,1e-3"}, ranges=False) == search_space.read_axes(
        base, {"learning_rate": "1e-4,1e-3"}, ranges=False
    )
    with pytest.raises(InputError, match="learning_rate is given twice"):
        search_space.read_axes(base, {"lr": "1e-4", "learning_rate": "1e-3"}, ranges=False)
    with pytest.raises(InputError, match="unknown setting of ppo 'batch_size'; nearest: num_minibatches"):
        Experiment("ppo", "CartPole-v1", config={"batch_size": 100})


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("1e6", int, 1e6), ("1_000", int, 1000), ("64x64", tuple[int, ...], (64, 64)), ("x", tuple[int, ...], ()),
        ("None", int | None, None), ("3", int | None, 3), ("true", bool, True), ("1e-3", float, 1e-3), ("mlp", str, "mlp"),
    ],
)  # fmt: skip
def test_text_as_values(text, hint, value):
    assert read("x", text, hint) == value


def test_arguments_and_parameters_of_environments():
    assert flags.assignments("--env-kwarg", ["a=1e3", "b=1_000", "c=True", "d=4x4", "e=[1, 2]"]) == {
        "a": 1000.0, "b": 1000, "c": True, "d": "4x4", "e": [1, 2],
    }  # fmt: skip
    assert registry.find_env("RandomGame", {"num_states": 1e1}).spec.observation_space.n == 10
    rewards = registry.find_env("FrozenLake-misc", {"reward_schedule": "1x0x0.5"})
    assert rewards.spec.observation_space.n == 16
    with pytest.raises(InputError, match="argument num_states = 7.5 must be an integer"):
        registry.find_env("RandomGame", {"num_states": 7.5})


def lines(capsys, *words):
    assert cli.main([str(w) for w in words]) == 0
    return capsys.readouterr().out.splitlines()


def test_list_shows_all_of_an_environment(capsys):
    rows = {line.split()[0]: line.split()[1:] for line in lines(capsys, "list", "envs", "Garnet")}
    assert rows["observations"] == ["Discrete(10)"] and rows["actions"] == ["Discrete(3)"]
    assert rows["branching"] == ["int", "3"] and rows["noise"] == ["float32", "0.1"]
    assert rows["probability"] == ["float32[10,", "3,", "10]", "…"]
    text = "\n".join(lines(capsys, "list", "envs", "Pendulum-v1"))
    assert "actions Box(1,) from -2 to 2" in text and "--env-kwarg: it takes none" in text and "max_speed" in text


def test_list_shows_all_fields_of_an_agent(capsys):
    rows = {line.split()[0]: line for line in lines(capsys, "list", "agents", "dqn")}
    assert set(known("dqn")) - set(flags.fields(TrainOptions)) <= set(rows)
    assert rows["gamma"].split(maxsplit=1)[1] == "float >= 0 and <= 1     0.99"
    assert rows["hidden_sizes"].split()[-1] == "120x84" and "auto | mlp" in rows["torso"]


def test_list_needs_to_know_what_a_name_is(capsys):
    assert cli.main(["list", "all", "dqn"]) == 2 and "jaxrl list agents dqn" in capsys.readouterr().err
    assert cli.main(["list", "envs", "Garne"]) == 2 and "nearest: Garnet" in capsys.readouterr().err


OWN = """
import jax.numpy as jnp
from jaxrl import Box, Discrete, Env, EnvSpec, EnvStep

def make(reward=1.0):
    def reset(key, params):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, state, action, params):
        return state + 1, EnvStep(jnp.zeros(1), REWARD, state >= 5, jnp.bool_(False))

    return Env(EnvSpec("Own", Box((1,), 0.0, 1.0), Discrete(2)), {}, reset, step)
"""


def test_check_prints_what_holds_and_ends_at_a_fault(capsys, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN.replace("REWARD", "jnp.float32(reward)"))
    printed = lines(capsys, "check", f"{file}:make", "--env-kwarg", "reward=2")
    assert "ok    pure: the same key and action give the same results" in printed
    assert "note  rewards of random actions: 2 to 2" in printed
    assert not [line for line in printed if line[:6] not in ("ok    ", "note  ")]
    wrong = Path(tmp_path / "wrong.py")
    wrong.write_text(OWN.replace("REWARD", "state"))
    assert cli.main(["check", f"{wrong}:make"]) == 2
    found = capsys.readouterr()
    assert found.out.splitlines()[0].startswith("ok    spec: Own: observations Box(1,), actions Discrete(2)")
    assert found.err == (
        'jaxrl: error: step of Own gives reward int32[], expected float32[]: cast it with .astype("float32")\n'
    )


def test_a_preset_of_ones_own_trains_and_is_recorded(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("total_steps = 600\nlearning_rate = 0.25\nenv.max_steps_in_episode = 7\n")
    words = ["train", "q_learning", "--env", "RandomGame", "--preset", file, "--out", tmp_path / "run", "--json"]
    assert json.loads(lines(capsys, *words, "--lr", 0.5)[-1])["env_steps"] >= 600
    file.unlink()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["hparams"]["learning_rate"] == 0.5 and config["env_params"] == {"max_steps_in_episode": 7}
    assert config["preset"] == str(file) and config["total_steps"] == 600
    lines(capsys, "eval", tmp_path / "run", "--episodes", 2)
    words = ["train", "q_learning", "--env", "RandomGame", "--preset", tmp_path / "run", "--out", tmp_path / "b", "--json"]
    assert json.loads(lines(capsys, *words)[-1])["env_steps"] >= 600
    assert json.loads((tmp_path / "b" / "config.json").read_text())["hparams"]["learning_rate"] == 0.5
