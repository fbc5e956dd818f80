"""The Experiment: one value for what is trained, what it refuses, and what can be made again from its JSON."""

import dataclasses
import json
import pickle
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from gymnax.environments.bsuite.catch import Catch

import jaxrl
from jaxrl import envs
from jaxrl.agents import q_learning
from jaxrl.envs import cliff_walking, transforms
from jaxrl.experiment import experiment, registry, search_space
from jaxrl.experiment.experiment import Experiment, experiment_of, from_json
from tests import toys

OWN = """
import dataclasses, math
import flax.linen as nn
import gymnax
import jax.numpy as jnp
from jaxrl import Env, EnvSpec
from jaxrl.core.settings import LoopConfig
from jaxrl.envs.transforms import scale_rewards
from tests import toys

class Wide(nn.Module):
    width: int = 32
    @nn.compact
    def __call__(self, obs):
        return nn.Dense(self.width)(obs)

wider = Wide(64)
HParams = toys.Level.HParams

@dataclasses.dataclass(frozen=True)
class Config(toys.Level.Config):
    torso: object = "auto"

def make(spec, config):
    return toys.Level.make(spec, config)

def corridor(target=3.0):
    env = toys.level_env()
    return env._replace(params={"target": jnp.float32(target)})

def catch(rows=10):
    return gymnax.environments.bsuite.catch.Catch(rows=rows)

def half(env, share=0.5):
    return scale_rewards(env, share)
"""


@pytest.fixture(autouse=True, scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder / "own.py"
    sys.path[:] = [p for p in sys.path if p != str(folder)]


def ppo(**kwargs):
    return Experiment("ppo", "CartPole-v1", **{"preset": "none", **kwargs})


def test_it_is_a_value():
    a, b = ppo(hparams={"learning_rate": 0.5}), ppo(hparams={"learning_rate": 0.5})
    assert a == b and hash(a) == hash(b) and a != ppo() and len({a, b, ppo()}) == 2
    assert a.replace(hparams={"learning_rate": 2.5e-4}) == ppo()
    assert repr(a) == "Experiment('ppo', 'CartPole-v1', total_steps=100000, preset='none', learning_rate=0.5)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.total_steps = 5
    assert pickle.loads(pickle.dumps(a)) == a


def test_replace_changes_what_is_named_and_checks_it():
    base = ppo(hparams={"learning_rate": 0.5}, env_params={"gravity": 1.6})
    assert base.replace(hparams={"gamma": 0.5}).hparams == dataclasses.replace(base.hparams, gamma=0.5)
    assert base.replace(total_steps=7, config={"num_envs": 8}).environment is base.environment
    moved = base.replace(env="Acrobot-v1", env_params={}, env_transforms=["flatten"])
    assert (moved.env, moved.hparams, moved.preset) == ("Acrobot-v1", base.hparams, "none")
    assert moved.environment.spec.id == "Acrobot-v1+flatten"
    assert base.replace(agent="a2c") == Experiment("a2c", "CartPole-v1", env_params={"gravity": 1.6}, total_steps=100_000)
    toy = Experiment(toys.Level, toys.level_env()).replace(hparams={"level": 2})
    assert toy.hparams.level == 2 and toy.replace(env_transforms=["flatten"]).environment.spec.id == "Level+flatten"
    for change in ({"learning_rate": 1}, {"hparams": {"gamma": 2}}, {"env_params": {"gravty": 1}}, {"total_steps": 0}):
        with pytest.raises(ValueError, match=r"learning_rate|gamma|gravity|total_steps"):
            base.replace(**change)


def test_make_trainer_takes_an_experiment():
    base = Experiment("q_learning", "CliffWalking", total_steps=2000)
    assert (
        jaxrl.make_trainer(base).total_steps
        == jaxrl.make_trainer("q_learning", "CliffWalking", total_steps=2000).total_steps
    )
    assert experiment_of(base) is base and experiment_of(base, total_steps=5).total_steps == 5
    for call in (lambda: experiment_of(base, "CartPole-v1"), lambda: experiment_of("ppo")):
        with pytest.raises(ValueError, match="env"):
            call()


REFUSED = [
    (("dqn", "CartPole-v1"), {"total_steps": 500}, "learning_starts = 10000 must be below total_steps = 500"),
    (("ppo", "CartPole-v1"), {"env_params": [1]}, r"env_params = \[1\] must be a mapping"),
    (("ppo", "CartPole-v1"), {"env_kwargs": 3}, "env_kwargs = 3 must be a mapping"),
    (("ppo", "CartPole-v1"), {"env_params": {"gravity": "x"}}, "gravity = 'x' is not a number"),
    (("ppo", "CartPole-v1"), {"env_transforms": "flatten"}, "env_transforms = 'flatten' must be a sequence"),
    (("ppo", "CartPole-v1"), {"env_transforms": ["flaten"]}, "unknown environment transform 'flaten'; nearest: flatten"),
    (("ppo", "CartPole-v1"), {"env_transforms": ["stack_frames"]}, "stack_frames': missing a required argument: 'n'"),
    (("ppo", "CartPole-v1"), {"env_transforms": ["stack_frames(0)"]}, "n = 0 is out of range"),
    (("ppo", "CartPole-v1"), {"env_transforms": ["own.py:Wide"]}, "transform 'own.py:Wide' gives Wide, not an Env"),
    (("own.py:mkae", "CartPole-v1"), {}, "own.py has no 'mkae'; nearest: make"),
    (("own.py:half", "CartPole-v1"), {"env_kwargs": {"a": 1}}, "unknown argument of CartPole-v1 'a'"),
    (("ppo", "own.py:Wide"), {}, "makes Wide, neither"),
    (
        ("ppo", "own.py:corridor"),
        {"env_kwargs": {"tagret": 1}},
        "unknown argument of own.py:corridor 'tagret'; nearest: target",
    ),
    (("ppo", "own.py:HParams"), {"env_kwargs": {"levl": 1}}, "nearest: level"),
    (("own.py:corridor.x", "CartPole-v1"), {}, "own.py has no 'corridor.x'"),
    (("own.py:math", "CartPole-v1"), {}, "agent own.py:math lacks Config, HParams, make"),
    (("own.py:make", "own.py:corridor"), {"config": {"torso": "own.py:half"}}, "torso = own.py:half must be a flax"),
    (("ppo", "CartPole-v1"), {"config": {"num_envs": 10**400}}, "num_envs = 1000.* is too large"),
]


@pytest.mark.parametrize(("names", "kwargs", "message"), REFUSED)
def test_what_is_wrong_is_named_in_one_line_when_it_is_made(names, kwargs, message):
    with pytest.raises(ValueError, match=message) as refused:
        Experiment(*names, preset="none", **kwargs)
    assert "\n" not in str(refused.value)


TOO_LARGE = [
    (("dqn", "CartPole-v1"), {"config": {"replay_capacity": 10**11}}, "replay_capacity = 100000000000 is too large"),
    (("ppo", "CartPole-v1"), {"config": {"rollout_length": 10**11}}, "rollout_length = 100000000000 is too large"),
    (("ppo", "CartPole-v1"), {"config": {"hidden_sizes": (10**11,)}}, "hidden_sizes = 100000000000 is too large"),
    (
        ("ucb", "BernoulliBandit"),
        {"env_kwargs": {"num_arms": 10**12}},
        "'num_arms': 1000000000000} does not fit|num_arms = 1",
    ),
]


@pytest.mark.parametrize(("names", "kwargs", "message"), TOO_LARGE)
def test_what_cannot_fit_the_memory_is_refused_before_it_is_compiled(names, kwargs, message):
    with pytest.raises(ValueError, match=message) as refused:
        jaxrl.make_trainer(*names, preset="none", **kwargs)
    assert "\n" not in str(refused.value)


def rebuilt(found):
    found.check_rebuildable()
    again = from_json(json.loads(json.dumps(found.to_json())))
    assert again == found and again.to_json() == found.to_json()
    return again


def spec_of(found):
    return found.environment.spec.id, found.environment.spec.observation_space, found.environment.spec.action_space


REBUILDABLE = {
    "names": (("q_learning", "CliffWalking"), {}),
    "modules of ours": ((q_learning, cliff_walking.make), {}),
    "files": (("own.py:make", "own.py:corridor"), {"env_kwargs": {"target": 5.0}, "config": {"torso": "own.py:wider"}}),
    "a gymnax environment of a file": (("reinforce", "own.py:catch"), {"env_kwargs": {"rows": 5}}),
    "objects that lie in modules": ((toys.Level, toys.level_env), {"env_transforms": [transforms.flatten]}),
    "a gymnax class": (("reinforce", Catch), {"env_kwargs": {"rows": 5}}),
    "a gymnax instance without arguments": (("reinforce", Catch()), {}),
    "transforms": (("ppo", "Catch-bsuite"), {"env_transforms": ["flatten", "own.py:half(share=2)", "stack_frames(3)"]}),
}  # fmt: skip


@pytest.mark.parametrize("case", REBUILDABLE)
def test_what_has_names_is_made_again_from_its_json(case):
    names, kwargs = REBUILDABLE[case]
    found = Experiment(*names, total_steps=2000, **kwargs)
    again = rebuilt(found)
    assert spec_of(again) == spec_of(found)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again.environment.params, found.environment.params))


def test_what_is_recorded():
    found = Experiment("own.py:make", "own.py:corridor", config={"torso": "own.py:Wide"}, env_transforms=["own.py:half(2)"])
    values = found.to_json()
    assert (values["agent"], values["env"], values["config"]["torso"]) == ("own.py:make", "own.py:corridor", "own.py:Wide")
    assert values["env_transforms"] == ["own.py:half(2)"] and set(values["sources"]) == {
        "own.py:make", "own.py:corridor", "own.py:Wide", "own.py:half",
    }  # fmt: skip
    assert issubclass(found.config.torso, nn.Module)
    assert Experiment(q_learning, cliff_walking.make).to_json() == Experiment("q_learning", "CliffWalking").to_json()
    assert Experiment("reinforce", Catch()).env == "Catch-bsuite"


def test_a_whole_config_with_a_torso_is_taken():
    found = Experiment("own.py:make", "own.py:corridor", config={"torso": "own.py:wider"})
    assert found.config.torso.width == 64 and found.replace(config=found.config) == found


def test_torsos_are_varied_by_name():
    base = Experiment("own.py:make", "own.py:corridor")
    for given in ("auto,own.py:wider", ["auto", base.replace(config={"torso": "own.py:wider"}).config.torso]):
        axes = search_space.read_axes(base, {"torso": given}, ranges=False)
        assert axes["torso"].values == ("auto", "own.py:wider")
    assert search_space.applied(base, {"torso": "own.py:wider"}).config.torso.width == 64
    for wrong in ("own.py:half", [lambda x: x], "mpl"):
        with pytest.raises(ValueError, match="torso"):
            search_space.read_axes(ppo(), {"torso": wrong}, ranges=False)


class NotReachable:
    """Reached as an instance only."""

    Config, HParams, make = toys.Level.Config, toys.Level.HParams, staticmethod(toys.Level.make)


def objects():
    class Here(nn.Module):
        pass

    env = registry.find_env("CliffWalking")
    return {
        "agent": Experiment(NotReachable(), toys.level_env),
        "env": Experiment("q_learning", env),
        "env, a gymnax instance with arguments": Experiment("reinforce", Catch(rows=5)),
        "env, transformed": Experiment("reinforce", transforms.stack_frames(transforms.flatten(env), 4)),
        "env_transforms": Experiment(
            "q_learning", "CliffWalking", env_transforms=[lambda env: transforms.scale_rewards(env, 2)]
        ),
        "torso": Experiment("own.py:make", "own.py:corridor", config={"torso": Here}),
    }


def test_what_has_no_name_trains_but_cannot_be_written():
    for case, found in objects().items():
        with pytest.raises(ValueError, match=f"^{case.split(',')[0]}.*package.module:attribute") as refused:
            found.check_rebuildable()
        assert "\n" not in str(refused.value)
        with pytest.raises(ValueError):
            from_json(json.loads(json.dumps(found.to_json())))  # never something else of a similar name
        assert found == found.replace(total_steps=found.total_steps) and found != objects()[case]


def test_an_own_module_named_like_ours_is_not_ours(tmp_path, monkeypatch):
    code = "from tests.toys import Level\nConfig, HParams = Level.Config, Level.HParams\n"
    (tmp_path / "ppo.py").write_text(code + "def make(*args):\n    return Level.make(*args)\n")
    monkeypatch.chdir(tmp_path)
    found = Experiment("ppo.py:make", toys.level_env)
    assert found.preset == "none" and found.agent == "ppo.py:make"


def test_a_drop_in_environment_is_recorded_by_its_file_not_by_its_spec(tmp_path, monkeypatch):
    (tmp_path / "drop_in.py").write_text("from tests.toys import level_env as make\n")
    monkeypatch.setattr(envs, "__path__", [*envs.__path__, str(tmp_path)])
    registry.own_envs.cache_clear()
    try:
        found = Experiment("reinforce", "DropIn")
        assert (found.env, found.environment.spec.id) == ("DropIn", "Level") and rebuilt(found).env == "DropIn"
    finally:
        registry.own_envs.cache_clear()


def test_a_changed_file_is_refused_by_name_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from tests.toys import level_env\ndef make():\n    return level_env()\n")
    found = Experiment("reinforce", "mine.py:make")
    values = found.to_json()
    monkeypatch.chdir(tmp_path.parent)
    assert from_json(values).to_json() == values  # from anywhere
    (tmp_path / "mine.py").write_text("raise SystemExit('must not run')")
    with pytest.raises(ValueError, match=r"mine.py.*has changed.*--anyway") as refused:
        from_json(values)
    assert "\n" not in str(refused.value)
    (tmp_path / "mine.py").write_text("from tests.toys import level_env\ndef make():\n    return level_env()\n# more\n")
    assert found.to_json() == found.replace(total_steps=9).replace(total_steps=found.total_steps).to_json() == values
    assert from_json(values, anyway=True).to_json()["sources"] != values["sources"]


WRONG = [None, True, 3, -1.5, "x", [1], {"x": [1]}, {"x": {}}, 10**400]


@pytest.mark.parametrize("field", [*experiment.FIELDS, "env_transforms", "sources"])
def test_a_field_of_a_wrong_type_or_missing_is_refused_in_one_line(field):
    values = ppo().to_json()
    if field in experiment.FIELDS:
        with pytest.raises(ValueError, match=f"no {field}"):
            from_json({name: value for name, value in values.items() if name != field})
    for wrong in WRONG:
        if (field, wrong) in (("total_steps", 3), ("preset", "x")):
            continue
        with pytest.raises(ValueError, match=r"^[^\n]*$"):
            from_json({**values, field: wrong})
    for kind in ("config", "hparams", "env_params"):
        for name in values[kind] if field == kind else ():
            for wrong in ([[1]], {"x": 1}, "x", 10**400):
                with pytest.raises(ValueError, match=r"^[^\n]*$"):
                    from_json({**values, kind: {**values[kind], name: wrong}})
