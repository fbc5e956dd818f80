"""envs/adapters/dataset.py: recorded data as an environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import datasets
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.vectorize import vectorize
from jaxrl.experiment import registry
from jaxrl.experiment.experiment import from_json
from tests import recorded
from tests.command_line import jaxrl_cli
from tests.small import small_trainer

LENGTHS = [3, 1, 2, 5, 4, 2, 6, 3, 1, 2]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Ten episodes; the i-th has observations 100 i, 100 i + 1, ... and actions that are their remainders by 3."""
    out = tmp_path_factory.mktemp("plain") / "data"
    datasets.write(out, recorded.counting(LENGTHS))
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """40 images of 2 × 3 of two labels; all pixels of one are its number, and the odd ones are of label 1."""
    out = tmp_path_factory.mktemp("pictures")
    numbers = np.arange(40, dtype=np.uint8)
    np.savez(out / "a.npz", images=np.broadcast_to(numbers[:, None, None], (40, 2, 3)), labels=numbers % 2)
    return out


def drawn(env, params, count=400):
    """First observations of so many episodes."""
    return jax.device_get(
        jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))(jax.random.split(jax.random.key(0), count))
    )


def test_examples_of_a_split_are_of_its_episodes_all_of_them(plain):
    env = registry.find_env(f"dataset:{plain}")
    assert env.spec.observation_space == Product.of(input=Discrete(1000), target=Discrete(3))
    assert env.spec.action_space == Discrete(3) and env.spec.splits is not None
    parts = datasets.read(plain).split()
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        obs = drawn(env, env.spec.splits(env.params, name))
        assert set(obs["input"].tolist()) == set(part.obs.tolist())
        np.testing.assert_array_equal(obs["target"], obs["input"] % 3)
    assert set(drawn(env, env.params)["input"].tolist()) == set(parts[0].obs.tolist())
    with pytest.raises(InputError, match="unknown split 'tets'; nearest: test"):
        env.spec.splits(env.params, "tets")


def test_every_step_is_an_episode_and_pays_what_is_right(plain):
    vec = vectorize(registry.find_env(f"dataset:{plain}"), 8)

    def one(carry, keys):
        state, obs, pool = carry
        action = jax.random.randint(keys[0], (8,), 0, 3)
        state, after, pool, out = vec.step(keys, state, pool, action, vec.params)
        return (state, after, pool), (obs, action, out)

    start = (*vec.init(jax.random.key(0), vec.params), vec.prepare(jax.random.key(1), vec.params))
    _, (obs, action, out) = jax.jit(lambda c: jax.lax.scan(one, c, jax.random.split(jax.random.key(2), (30, 8))))(start)
    assert out.terminated.all() and not out.truncated.any()
    np.testing.assert_array_equal(out.reward, (obs["target"] == action).astype(np.float32))
    assert 0 < out.reward.mean() < 1


def test_sequences_are_recorded_episodes_in_order(plain):
    env = registry.find_env(f"dataset:{plain}", {"sequences": True})
    train = datasets.read(plain).split()[0]
    step, reset = jax.jit(env.step), jax.jit(env.reset)
    seen = set()
    for i in range(40):
        state, obs = reset(jax.random.key(i), env.params)
        inputs, ended = [int(obs["input"])], False
        while not ended:
            state, out = step(jax.random.key(0), state, jnp.int32(inputs[-1] % 3), env.params)
            ended = bool(out.terminated)
            assert out.reward == 1
            inputs.append(int(out.obs["input"]))
        number = inputs[0] // 100
        assert inputs[:-1] == [100 * number + t for t in range(LENGTHS[number])]
        seen.add(number)
    assert seen == set((train.obs // 100).tolist())


def test_boxes_pay_minus_the_squared_error_and_parts_their_sum(tmp_path):
    datasets.write(tmp_path / "data", recorded.mixed([4] * 5))
    env = registry.find_env(f"dataset:{tmp_path / 'data'}")
    assert (env.spec.observation_space.spaces, env.spec.action_space) == (recorded.MIXED, recorded.MIXED[1])
    state, obs = env.reset(jax.random.key(3), env.params)
    push = obs["target"]["push"]
    for move, right in ((obs["target"]["move"], 1.0), (1 - obs["target"]["move"], 0.0)):
        out = env.step(jax.random.key(0), state, {"move": move, "push": push + 0.5}, env.params)[1]
        assert out.reward == pytest.approx(right - 0.25, abs=1e-6)


def test_images_and_their_labels(pictures):
    env = registry.find_env(f"dataset:{pictures}")
    assert env.spec.observation_space == Product.of(input=Box((2, 3, 1), 0.0, 1.0), target=Discrete(2))
    counts = []
    for name in ("train", "validation", "test"):
        obs = drawn(env, env.spec.splits(env.params, name), 800)
        numbers = np.round(obs["input"] * 255).astype(int)
        assert (numbers == numbers[:, :1, :1]).all()
        np.testing.assert_array_equal(obs["target"], numbers[:, 0, 0, 0] % 2)
        counts.append(len(np.unique(numbers)))
    assert counts == [32, 4, 4]


def test_a_picture_may_be_its_own_target(pictures, tmp_path):
    env = registry.find_env(f"dataset:{pictures}", {"target": "observation"})
    state, obs = env.reset(jax.random.key(1), env.params)
    np.testing.assert_array_equal(obs["input"], obs["target"])
    out = env.step(jax.random.key(0), state, obs["target"] + 0.1, env.params)[1]
    assert env.spec.action_space == Box((2, 3, 1), 0.0, 1.0) and out.reward == pytest.approx(-0.01, abs=1e-6)
    sight = Box((2, 3), 0, 255, np.uint8)
    data = recorded.mixed([2] * 4)
    info = datasets.Info("Sight", sight, Discrete(1))
    action = np.zeros(8, np.int32)
    data = datasets.Dataset(
        info, data.observations["sight"], action, data.reward, data.terminated, data.truncated, data.lengths
    )
    datasets.write(tmp_path / "data", data)
    env = registry.find_env(f"dataset:{tmp_path / 'data'}", {"target": "observation"})
    obs = drawn(env, env.params, 3)
    assert obs["input"].dtype == np.uint8
    np.testing.assert_allclose(obs["target"] * 255, obs["input"], rtol=1e-6)


@pytest.mark.parametrize("kwargs", [{}, {"sequences": True}])
def test_the_check_of_environments_passes(kwargs, plain):
    report = str(jaxrl.check_env(f"dataset:{plain}", env_kwargs=kwargs))
    assert "pure: the same key" in report and "params, traced: split" in report


def test_the_command_checks_and_lists_it(pictures):
    assert (
        "ok    obs: within the bounds"
        in jaxrl_cli("check", f"dataset:{pictures}", "--env-kwarg", "target=observation").stdout
    )
    assert "target" in jaxrl_cli("list", "envs", f"dataset:{pictures}").stdout


def test_ppo_learns_digits():
    """PPO sees the target among its inputs, so that all it has to learn is to name it; a guess is right in a tenth."""
    trainer = small_trainer(
        "ppo", "dataset:digits", total_steps=4000, config={"num_envs": 64, "torso": "mlp"}, hparams={"learning_rate": 0.02}
    )
    state, metrics = jax.jit(trainer.train)(jax.random.key(0))
    assert metrics["episode_return"][0] < 0.3 and metrics["episode_length"][0] == 1
    test = state._replace(env_params=trainer.env.spec.splits(state.env_params, "test"))
    assert jaxrl.evaluate(trainer, test, jax.random.key(1), 256).returns.mean() > 0.8


@pytest.mark.parametrize(
    ("env", "kwargs", "said"),
    [
        ("{plain}", {"target": "label"}, "holds transitions, whose targets are action or observation"),
        ("{plain}", {"target": "lable"}, "target = 'lable' is not one of auto, action, label, observation; nearest: label"),
        ("{plain}", {"target": "observation"}, r"needs observations that are a Box, not Discrete\(1000\)"),
        ("{plain}", {"sequence": True}, "unknown argument of dataset:.* 'sequence'; nearest: sequences"),
        ("{plain}", {"sequences": 3}, "sequences = 3 must be of type bool"),
        ("{pictures}", {"target": "action"}, "holds images, whose targets are label or observation"),
        ("{pictures}", {"sequences": True}, "holds images, which have no episodes"),
        ("digit", {}, "no images digit: neither a folder nor a name; nearest: digits"),
        ("{tmp}", {}, "holds no data: neither dataset.json, nor Minari's data/main_data.hdf5, nor .npz files of images"),
        ("{tmp}/two", {}, "two: 2 episodes or images cannot be split into 3 parts"),
    ],
)
def test_bad_input(env, kwargs, said, plain, pictures, tmp_path):
    datasets.write(tmp_path / "two", recorded.counting([4, 4]))
    with pytest.raises(InputError, match=said) as error:
        registry.find_env("dataset:" + env.format(plain=plain, pictures=pictures, tmp=tmp_path), kwargs)
    assert "\n" not in str(error.value)


def test_bad_input_of_the_command_is_one_line(tmp_path):
    words = ("ppo", "--env", f"dataset:{tmp_path / 'none'}", "--out", tmp_path / "new")
    done = jaxrl_cli("train", *words, code=2)
    assert "no images" in done.stderr and len(done.stderr.splitlines()) == 1 and not (tmp_path / "new").exists()


def test_data_that_has_changed_is_refused(tmp_path):
    """By config.json: another recording in its place is another experiment."""
    datasets.write(tmp_path, recorded.counting(LENGTHS))
    values = jaxrl.Experiment("clone", f"dataset:{tmp_path}").to_json()
    assert len(values["sources"][f"dataset:{tmp_path}"]["sha256"]) == 64
    assert from_json(values).to_json() == values
    datasets.write(tmp_path, recorded.counting(LENGTHS[::-1]), overwrite=True)
    with pytest.raises(InputError, match="has changed since it was recorded"):
        from_json(values)
    assert from_json(values, anyway=True).env == f"dataset:{tmp_path}"
    assert jaxrl.Experiment("classify", "dataset:digits").sources == {}
