"""The training loop, the evaluation and the driver's chunk, on an agent small enough to know every number."""

import functools
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.loop import EVALUATE, INIT, TRAIN, stream
from jaxrl.core.means import Mean
from jaxrl.core.settings import LoopConfig, hyperparameters
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Agent, Env, EnvSpec, EnvStep, VecEnv
from jaxrl.devices import programs

LENGTH = 3


def counting_env(length=LENGTH):
    """Observes its own clock 0, 1, …; pays the clock; ends after `length` steps: return 0 + 1 + … + length - 1."""

    def reset(key, params):
        return jnp.int32(0), jnp.float32([0.0])

    def step(key, state, action, params):
        after = state + 1
        out = EnvStep(
            after[None].astype(jnp.float32),
            state.astype(jnp.float32),
            after >= length,
            jnp.bool_(False),
            {"regret": state.astype(jnp.float32) * 2},
        )
        return after, out

    return Env(EnvSpec("Counting", Box((1,)), Discrete(2)), {}, reset, step)


@hyperparameters
class HParams:
    step_size: float = 1.0


def recorder(spec, config):
    """An agent that keeps its last rollout, and remembers its own acts in `memory`: steps since `first`."""
    shape = (config.rollout_length, config.num_envs)

    def act(hp, state, memory, obs, first, clock, key):
        memory = jnp.where(first, 0, memory) + 1
        return jnp.zeros(obs.shape[0], jnp.int32), memory, (clock, memory)

    def learn(hp, state, rollout, clock, key):
        return (rollout, clock, state[2] + 1), {"seen": Mean.of(rollout.steps.reward)}

    def init(key, hp, params=None):
        blank = jax.eval_shape(lambda: make_rollout(shape))
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)
        return (*zero, jnp.int32(0))

    def greedy(hp, state, memory, obs, first, key):
        return jnp.zeros(obs.shape[0], jnp.int32), memory

    return Agent(init, lambda n: jnp.zeros(n, jnp.int32), act, greedy, learn)


def make_rollout(shape):
    from jaxrl.core.types import Clock, Rollout, Transition

    t, n = shape
    flags, numbers = jnp.zeros(shape, bool), jnp.zeros(shape)
    clock = Clock(jnp.zeros(t, jnp.int32), jnp.zeros(t))
    steps = Transition(
        jnp.zeros((*shape, 1)), flags, jnp.zeros(shape, jnp.int32), numbers, flags, flags, jnp.zeros((*shape, 1)),
        (clock, jnp.zeros(shape, jnp.int32)), flags,
    )  # fmt: skip
    return Rollout(steps, jnp.zeros(n, jnp.int32)), Clock(jnp.int32(0), jnp.float32(0))


FACTORY = SimpleNamespace(Config=LoopConfig, HParams=HParams, make=recorder, __name__="recorder")


def trainer_of(env=None, total_steps=40, **config):
    config = {"num_envs": 2, "rollout_length": 5, "updates_per_iteration": 2} | config
    return jaxrl.make_trainer(FACTORY, env or counting_env(), total_steps=total_steps, config=config)


def test_rollout_rows_by_hand():
    """5 steps of episodes of length 3, second rollout of the iteration: steps 5 to 9 of each environment."""
    state, _ = trainer_of().step(trainer_of().init(jax.random.key(0)))
    (steps, memory), clock, learned = state.agent
    expected = np.array([2, 0, 1, 2, 0])
    for env in range(2):
        np.testing.assert_array_equal(steps.obs[:, env, 0], expected)
        np.testing.assert_array_equal(steps.next_obs[:, env, 0], expected + 1)  # never the reset observation
        np.testing.assert_array_equal(steps.reward[:, env], expected)
        np.testing.assert_array_equal(steps.first[:, env], expected == 0)
        np.testing.assert_array_equal(steps.terminated[:, env], expected == 2)
        np.testing.assert_array_equal(steps.extras[1][:, env], expected + 1)  # the memory was reset where first
    assert not steps.truncated.any() and steps.valid.all()
    np.testing.assert_array_equal(memory, [2, 2])  # as it was before the rollout's first step
    # The clock: act saw the steps taken before it (10 by the first rollout); learn its own too, but for progress.
    np.testing.assert_array_equal(steps.extras[0].env_steps, [10, 12, 14, 16, 18])
    np.testing.assert_allclose(steps.extras[0].progress, np.array([10, 12, 14, 16, 18]) / 40)
    assert int(clock.env_steps) == 20 and float(clock.progress) == 0.25 and int(learned) == 2
    assert int(state.iteration) == 1


def test_metrics_by_hand():
    """20 steps of an iteration: each environment takes 10, ends 3 episodes of return 0 + 1 + 2 and length 3."""
    _, metrics = jax.jit(trainer_of().train)(jax.random.key(0))
    np.testing.assert_array_equal(metrics["env_steps"], [20, 40])
    # Steps 11 to 20 of an environment end episodes at 12, 15 and 18.
    np.testing.assert_array_equal(metrics["episodes"], [6, 6])
    np.testing.assert_array_equal(metrics["episode_return"], [3, 3])
    np.testing.assert_array_equal(metrics["episode_length"], [3, 3])
    # Rewards 0 1 2 0 1 2 0 1 2 0, then 1 2 0 1 2 0 1 2 0 1: sums 9 and 10 over 10 steps; regret is twice that.
    np.testing.assert_allclose(metrics["seen"], [0.9, 1.0], rtol=1e-6)
    np.testing.assert_allclose(metrics["regret"], [1.8, 2.0], rtol=1e-6)
    assert not metrics["diverged"].any()


def test_no_episode_reads_nan():
    _, metrics = jax.jit(trainer_of(counting_env(1000)).train)(jax.random.key(0))
    np.testing.assert_array_equal(metrics["episodes"], [0, 0])
    assert np.isnan(metrics["episode_return"]).all() and not metrics["diverged"].any()


def test_default_iteration_holds_at_least_500_steps_and_totals_round_up():
    trainer = trainer_of(total_steps=1001, updates_per_iteration=0, num_envs=3, rollout_length=7)
    assert trainer.num_updates == 24  # 24 × 21 = 504 is the first multiple of 21 that reaches 500
    assert (trainer.num_iterations, trainer.total_steps) == (2, 1008)


def test_non_finite_metrics_mark_divergence():
    def make(spec, config):
        def learn(hp, state, rollout, clock, key):
            return state, {"loss": Mean.of(jnp.where(clock.env_steps > 20, jnp.nan, 1.0))}

        return recorder(spec, config)._replace(learn=learn)

    factory = SimpleNamespace(Config=LoopConfig, HParams=HParams, make=make, __name__="diverging")
    config = {"num_envs": 2, "rollout_length": 5, "updates_per_iteration": 2}
    trainer = jaxrl.make_trainer(factory, counting_env(), total_steps=40, config=config)
    _, metrics = jax.jit(trainer.train)(jax.random.key(0))
    np.testing.assert_array_equal(metrics["diverged"], [False, True])


def test_invalid_rows_are_left_out_of_metrics():
    """A VecEnv that spends every fourth row on resetting, as a host simulator does."""

    def init(key, params):
        return jnp.zeros(2, jnp.int32), jnp.zeros((2, 1))

    def step(keys, state, pool, action, params):
        phase = state % 4
        out = EnvStep(
            state[:, None].astype(jnp.float32),
            jnp.where(phase == 3, 99.0, 1.0),  # what an invalid row holds must not matter
            phase == 2,
            jnp.zeros(2, bool),
            {"regret": jnp.where(phase == 3, 99.0, 0.5)},
            phase != 3,
        )
        return state + 1, out.obs, pool, out

    vec = VecEnv(EnvSpec("Host", Box((1,)), Discrete(2)), {}, 2, init, lambda key, params: (), step)
    _, metrics = jax.jit(trainer_of(vec, rollout_length=4).train)(jax.random.key(0))
    np.testing.assert_array_equal(metrics["episode_return"], 3.0)
    np.testing.assert_array_equal(metrics["episode_length"], 3.0)
    np.testing.assert_array_equal(metrics["regret"], 0.5)


def test_vec_env_width_must_match():
    vec = VecEnv(EnvSpec("Host", Box((1,)), Discrete(2)), {}, 2, None, None, None)
    with pytest.raises(ValueError, match="num_envs = 3, but this VecEnv has 2"):
        trainer_of(vec, num_envs=3)


def test_evaluation_counts_each_environments_first_episode():
    """Episodes end with probability ½ a step: lengths are geometric. Taking the first to end would favour short ones."""

    def reset(key, params):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, state, action, params):
        return state, EnvStep(jnp.zeros(1), jnp.float32(2.0), jax.random.bernoulli(key), jnp.bool_(False))

    env = Env(EnvSpec("Coin", Box((1,)), Discrete(2)), {}, reset, step)
    trainer = trainer_of(env)
    state = trainer.init(jax.random.key(0))
    result = jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=4000)
    np.testing.assert_array_equal(result.returns, 2.0 * result.lengths)
    # Geometric(½): mean 2, variance 2, so the mean of 4,000 lies within 4 × √(2 / 4000) = 0.09.
    assert abs(float(result.lengths.mean()) - 2.0) < 0.09
    counts = np.bincount(np.asarray(result.lengths), minlength=5)[1:5] / 4000
    np.testing.assert_allclose(counts, [1 / 2, 1 / 4, 1 / 8, 1 / 16], atol=0.035)


def test_evaluation_stops_endless_episodes():
    trainer = trainer_of(counting_env(10**6))
    result = jaxrl.evaluate(trainer, trainer.init(jax.random.key(0)), jax.random.key(1), episodes=2, max_steps=50)
    np.testing.assert_array_equal(result.lengths, [50, 50])


def test_streams_of_a_root_key_are_distinct():
    root = jax.random.key(0)
    keys = [stream(root, tag, i) for tag in (INIT, TRAIN, EVALUATE) for i in range(50)] + [stream(root, INIT), root]
    assert len({tuple(np.asarray(jax.random.key_data(k))) for k in keys}) == len(keys)


def test_old_style_keys_work():
    trainer = trainer_of()
    typed, raw = trainer.init(jax.random.key(7)), trainer.init(jax.random.PRNGKey(7))
    assert jnp.array_equal(jax.random.key_data(typed.key), jax.random.key_data(raw.key))


@functools.cache
def _chunk_memory(total_steps):
    trainer = jaxrl.make_trainer("dqn", "CartPole-v1", total_steps=total_steps, config={"hidden_sizes": (16,)})
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    compiled = jax.jit(programs.make_chunk(trainer), donate_argnums=0).lower(state, jnp.int32(1)).compile()
    found = compiled.memory_analysis()
    return found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes


def test_device_memory_of_the_driver_does_not_grow_with_the_run():
    assert _chunk_memory(100_000) == _chunk_memory(200_000) == _chunk_memory(10_000_000)


def test_chunk_of_any_length_gives_the_same_bits():
    trainer = trainer_of(total_steps=200)
    traces = []
    body = programs.make_chunk(trainer)
    chunk = jax.jit(lambda state, n: traces.append(n) or body(state, n))
    whole, metrics = jax.jit(trainer.train)(jax.random.key(0))
    for lengths in ([10], [1, 2, 3, 4], [7, 3]):
        state, rows = trainer.init(jax.random.key(0)), []
        for n in lengths:
            state, buffer = chunk(state, jnp.int32(n))
            rows.append(np.asarray(buffer["seen"][:n]))
        assert np.array_equal(np.concatenate(rows), metrics["seen"])
        assert all(map(np.array_equal, jax.tree.leaves(state.agent), jax.tree.leaves(whole.agent)))
    assert len(traces) == 1


def test_importing_jaxrl_does_not_start_the_backend():
    import subprocess

    code = "import jaxrl, jaxrl.cli, jax; jax.config.update('jax_num_cpu_devices', 3); assert jax.device_count() == 3"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
