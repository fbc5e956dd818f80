"""Presets of one's own: a TOML file, or the directory of a run or a tuning; and that nothing needs them afterwards."""

import json

import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.experiment import experiment as experiments
from jaxrl.experiment import presets

ONE = "total_steps = 3000\nlearning_rate = 0.25\nenv.max_steps_in_episode = 7\n"
TABLES = f'["RandomGame"]\n{ONE}\n["CliffWalking"]\nlearning_rate = 0.75\n'


def made(preset, env="RandomGame", **kwargs):
    return jaxrl.Experiment("q_learning", env, preset=preset, **kwargs)


KINDS = "total_steps = 3000\n[hparams]\nlearning_rate = 0.25\n[env]\nmax_steps_in_episode = 7\n"


@pytest.mark.parametrize("text", [ONE, TABLES, KINDS], ids=["one table", "a table for each environment", "as in Python"])
def test_a_file_decides_what_is_not_explicit_and_is_not_needed_again(text, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    found = made(file)
    assert (found.total_steps, found.hparams.learning_rate, found.env_params) == (3000, 0.25, {"max_steps_in_episode": 7})
    assert found.preset == str(file)
    explicit = made(str(file), hparams={"learning_rate": 0.5}, env_params={"max_steps_in_episode": 9}, total_steps=100)
    assert (explicit.total_steps, explicit.hparams.learning_rate) == (100, 0.5)
    assert explicit.env_params == {"max_steps_in_episode": 9}
    if text == TABLES:
        assert made(file, "CliffWalking").hparams.learning_rate == 0.75
    written = json.loads(json.dumps(found.to_json()))
    file.unlink()
    again = experiments.from_json(written)
    assert again == found and again.preset == str(file) and again.hparams.learning_rate == 0.25


def test_settings_may_have_the_names_of_other_libraries(tmp_path):
    """In Python and in a preset's file; beside our own name they are one too many."""
    found = jaxrl.Experiment("ppo", "CartPole-v1", config={"n_envs": 2, "net_arch": (8,)}, hparams={"lr": 0.5, "lam": 0.25})
    assert (found.config.num_envs, found.config.hidden_sizes) == (2, (8,))
    assert (found.hparams.learning_rate, found.hparams.gae_lambda) == (0.5, 0.25)
    assert found.replace(hparams={"ent_coef": 0.125}).hparams.entropy_coef == 0.125
    file = tmp_path / "mine.toml"
    file.write_text("lr = 0.25\ntotal_timesteps = 3000\n")
    assert made(file).hparams.learning_rate == 0.25 and made(file, hparams={"lr": 0.5}).hparams.learning_rate == 0.5
    for hparams, message in (
        ({"lr": 1.0, "learning_rate": 1.0}, "learning_rate of q_learning is given twice"),
        ({"n_envs": 3}, "'n_envs' of q_learning belongs in config=, not in hparams="),
        ({"lrr": 1.0}, "unknown setting of q_learning 'lrr'"),
    ):
        with pytest.raises(InputError, match=message):
            made("none", hparams=hparams)


def directory_of(folder, kind, found, **summary):
    """What a run or a tuning leaves, as far as a preset reads it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"kind": kind, **found.to_json()}))
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_a_directory_gives_what_was_trained_or_what_was_found_best(tmp_path):
    base = made("none", total_steps=4000, hparams={"learning_rate": 0.1, "gamma": 0.5}, config={"num_envs": 3})
    run = made(directory_of(tmp_path / "run", "run", base))
    assert (run.total_steps, run.config, run.hparams) == (4000, base.config, base.hparams)
    best = {"learning_rate": 0.9, "num_envs": 5, "env.max_steps_in_episode": 11}
    tuned = made(directory_of(tmp_path / "tune", "tuning", base, best=best))
    assert (tuned.hparams.learning_rate, tuned.hparams.gamma, tuned.config.num_envs) == (0.9, 0.5, 5)
    assert tuned.env_params == {"max_steps_in_episode": 11} and tuned.preset == str(tmp_path / "tune")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rat = 1", "unknown setting of preset .*learning_rat'; nearest: learning_rate"),
        ("lr = 1\nlearning_rate = 1", "learning_rate of preset .* is given twice"),
        ("learning_rate = -1", "learning_rate = -1 is out of range"),
        ("learning_rate = ", "mine.toml is damaged"),
        ('["RandomGam"]\nlearning_rate = 1', "has no table for RandomGame, but has RandomGam: settings lie"),
        ("env.gravity = 1", "unknown parameter of RandomGame 'gravity'"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text, words, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        made(file)
    assert "\n" not in str(error.value)


def test_a_bad_directory_is_refused_in_one_line(tmp_path):
    base = made("none", total_steps=4000)
    sweep = directory_of(tmp_path / "sweep", "sweep", base)
    unfinished = directory_of(tmp_path / "tune", "tuning", base)
    other = directory_of(tmp_path / "sarsa", "run", jaxrl.Experiment("sarsa", "RandomGame"))
    (tmp_path / "empty").mkdir()
    for folder, words in (
        (sweep, "is a sweep, which has no settings of its own"),
        (unfinished, "tune/summary.json cannot be read: No such file"),
        (other, "is of agent sarsa, not of q_learning"),
        (tmp_path / "empty", "config.json cannot be read"),
        (tmp_path / "nowhere.toml", "nowhere.toml cannot be read"),
        (tmp_path / "nowhere", "unknown preset of q_learning"),
    ):
        with pytest.raises(InputError, match=words):
            made(folder)


def test_names_of_ours_come_first(tmp_path, monkeypatch):
    (tmp_path / "CartPole-v1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert presets.find_preset("dqn", "envpool:CartPole-v1")[0] == "CartPole-v1"
    assert presets.find_preset("dqn", "CartPole-v1", "CartPole-v1")[1] == presets.presets("dqn")["CartPole-v1"]


@pytest.mark.parametrize("agent", ["sac", "td3", "ppo"])
def test_a_table_of_several_environments(agent):
    """By the name of each, in whichever library it is; the table's own name is none."""
    name, settings = presets.find_preset(agent, "envpool:HalfCheetah-v5")
    assert name == "HalfCheetah-v5" and settings["total_steps"] == 1_000_000 and "envs" not in settings
    assert presets.find_preset(agent, "gymnasium:Walker2d-v5") == ("Walker2d-v5", settings)
    assert "MuJoCo" not in presets.presets(agent)
