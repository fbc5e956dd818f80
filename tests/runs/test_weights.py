"""Training that begins with another run's leaves: seed by seed, written down, gone on with bit for bit, or refused."""

import json
import shutil

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.networks import leaves
from jaxrl.runs import weights
from jaxrl.sweeps.directory import extend
from tests.command_line import jaxrl_cli
from tests.small import small_config

SMALL = {"config": small_config("ppo") | {"normalize_observations": True}, "preset": "none"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    jaxrl.train("ppo", "CartPole-v1", total_steps=300, seeds=2, out=folder, **SMALL)
    return folder


def leaves_of(trainer, state):
    return leaves.named(trainer.agent.params(state.agent))


def begun(trainer, experiment, seeds):
    """The states before training, as the driver makes them."""
    keys = jax.vmap(jax.random.key)(np.array(seeds))
    loaded = weights.loaded(experiment, trainer, np.array(seeds))
    return jax.vmap(lambda key, params: trainer.init(key, params=params))(keys, loaded)


def test_seed_k_begins_with_the_sources_kth_member(source):
    """Observations' moments too; what is not asked for is drawn as without a source."""
    experiment = jaxrl.Experiment("ppo", "CartPole-v1", init_from=source, init_leaves=["actor*", "observations"], **SMALL)
    trainer = experiment.trainer()
    found = leaves_of(trainer, begun(trainer, experiment, [0, 1, 2]))
    expected = leaves_of(*jaxrl.load(source))
    fresh = leaves_of(trainer, jax.vmap(lambda key: trainer.init(key))(jax.vmap(jax.random.key)(np.arange(3))))
    for name, x in found.items():
        loaded = name.startswith(("actor/", "observations/"))
        np.testing.assert_array_equal(x, np.asarray(expected[name])[[0, 1, 0]] if loaded else fresh[name], err_msg=name)
    assert float(expected["observations/count"][0]) > 0


def test_a_part_of_a_source(source):
    """The critic's torso under Q-values, by DIR:PART."""
    experiment = jaxrl.Experiment(
        "dqn", "CartPole-v1", init_from=f"{source}:critic", config=small_config("dqn"), preset="none"
    )
    trainer = experiment.trainer()
    found, expected = leaves_of(trainer, begun(trainer, experiment, [0, 1])), leaves_of(*jaxrl.load(source))
    np.testing.assert_array_equal(found["torso/MLP_0/Dense_0/kernel"], expected["critic/torso/MLP_0/Dense_0/kernel"])


def test_what_goes_where_is_written_down(source, tmp_path):
    """config.json has the table, and where the source is."""
    options = {"total_steps": 300, "seeds": 2, **SMALL, "config": SMALL["config"] | {"freeze": ("actor/torso",)}}
    whole = jaxrl.train("ppo", "CartPole-v1", init_from=source, out=tmp_path / "whole", **options)
    said = json.loads((tmp_path / "whole" / "config.json").read_text())
    row = {"leaf": "actor/torso/MLP_0/Dense_0/kernel", "shape": [4, 16], "state": "loaded"}
    assert row | {"source": row["leaf"]} in said["initial"]["leaves"] and len(said["initial"]["sha256"]) == 64
    name = "actor/torso/MLP_0/Dense_0/kernel"
    np.testing.assert_array_equal(leaves_of(*whole)[name], leaves_of(*jaxrl.load(source))[name])  # frozen
    assert jaxrl.load(tmp_path / "whole").wave.experiment.init_from == str(source)


def test_a_source_that_has_changed_is_refused(source, tmp_path):
    """A run that was stopped before its first checkpoint begins anew, from the same leaves or not at all."""
    out, other = tmp_path / "out", tmp_path / "source"
    shutil.copytree(source, other)
    jaxrl.train("ppo", "CartPole-v1", init_from=other, total_steps=300, seeds=2, out=out, **SMALL)
    for name in ("checkpoints", "summary.json", "metrics.jsonl", "timing.jsonl"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = out.with_name("again")
    shutil.copytree(out, again)
    jaxrl_cli("resume", again)
    extend(other, 900)
    jaxrl_cli("resume", other)
    done = jaxrl_cli("resume", out, code=2)
    assert f"init_from {other} has changed since {out} was made" in done.stderr


REFUSED = {
    "no such directory or .safetensors file": lambda source, tmp_path: tmp_path / "nowhere",
    "nothing in .* lies under 'actr'": lambda source, tmp_path: f"{source}:actr",
    "is a sweep, of several configurations: give a run": lambda source, tmp_path: sweep_at(tmp_path),
    "has no checkpoint yet": lambda source, tmp_path: without_checkpoint(source, tmp_path),
    "no leaf of it fits the agent; it has critic/torso": lambda source, tmp_path: source,
}


def sweep_at(tmp_path):
    from tests.directories import write_config

    write_config(tmp_path / "sweep", "sweep")
    return tmp_path / "sweep"


def without_checkpoint(source, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_text((source / "config.json").read_text())
    return tmp_path / "new"


@pytest.mark.parametrize("message", REFUSED)
def test_bad_sources_are_one_line_before_anything_is_written(message, source, tmp_path):
    wider = small_config("dqn") | {"hidden_sizes": (5,)}  # which nothing of the source fits
    where, out = REFUSED[message](source, tmp_path), tmp_path / "out"
    with pytest.raises(InputError, match=message):
        jaxrl.train("dqn", "CartPole-v1", init_from=where, config=wider, preset="none", total_steps=300, out=out)
    assert not out.exists()


def test_init_leaves_alone_is_refused():
    with pytest.raises(InputError, match="init_leaves needs init_from"):
        jaxrl.Experiment("ppo", "CartPole-v1", init_leaves=["torso"])
