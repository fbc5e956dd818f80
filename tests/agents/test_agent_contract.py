"""What every agent must do, over every agent there is: a new file in agents/ is tested here by itself."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.devices import programs
from jaxrl.devices.layout import Layout
from jaxrl.runs import checkpoint
from jaxrl.runs.checkpoint import Checkpoints
from tests.small import (
    AGENTS,
    CASES,
    NEARLY,
    QUICK,
    RAINBOW,
    WIDTH,
    assert_trees_equal,
    config_names,
    equal,
    hparam_names,
    released,
    root_keys,
    small_case,
    small_trainer,
    suitable,
)

# In its home all other tests do. Of those that share a network one goes through all environments.
ONCE = {"ppo": ["GearShift"], "reinforce": ["Pendulum-v1"], "pqn": ["Breakout-MinAtar"]}
PAIRS = [(agent, env) for agent in AGENTS for env in ONCE.get(agent, suitable(agent)[1:] or suitable(agent))]

FIRST = {agent: env for agent, env in reversed(PAIRS)}


@pytest.mark.parametrize("agent,env", [*FIRST.items(), *released(*(pair for pair in PAIRS if pair not in FIRST.items()))])
def test_trains_in_every_suitable_environment(agent, env):
    """Under jax_debug_nans, which refuses any NaN among the results: also means without a count have a value then."""
    trainer = small_trainer(agent, env, total_steps=300)
    kinds = 2 if env == FIRST[agent] else 1  # sampled too, once for each agent

    def run(key):
        state, metrics = trainer.train(key)
        evaluations = [  # of other numbers of episodes than environments
            jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=n, greedy=greedy, max_steps=300)
            for n, greedy in ((3, True), (5, False))[:kinds]
        ]
        return state, metrics, *evaluations

    with jax.debug_nans(True):
        state, metrics, *results = jax.jit(run, compiler_options=QUICK)(jax.random.key(0))
    assert {"env_steps", "episodes", "episode_return", "episode_length"} <= set(metrics)
    steps = trainer.steps_per_iteration * np.arange(1, trainer.num_iterations + 1)
    np.testing.assert_array_equal(metrics["env_steps"], steps)
    assert trainer.total_steps >= 300 > trainer.total_steps - trainer.steps_per_iteration
    assert not np.any(metrics["diverged"]) and all(np.isfinite(x).all() for x in metrics.values())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(checkpoint.to_host(state.agent)) if x.dtype.kind == "f")
    for result, episodes in zip(results, (3, 5)[:kinds], strict=True):
        assert result.returns.shape == result.lengths.shape == (episodes,)
        assert np.all(result.lengths >= 1) and np.isfinite(result.returns).all()


TORSOS = ["mlp", "minatar", "nature", "gru", "lstm", "transformer"]
# Agents that replay single steps, and what they name instead for a torso with memory.
INSTEAD = {"dqn": "r2d2", "sac": "ppo", "td3": "ppo"}
DEEP = [agent for agent in AGENTS if "torso" in config_names(agent) and "gamma" in hparam_names(agent)]


@pytest.mark.parametrize("agent", DEEP)
@pytest.mark.parametrize("torso", TORSOS)
def test_every_torso_fits_every_deep_agent_or_another_is_named(agent, torso):
    """Traced, not compiled: one iteration, and an evaluation with memory. Images for convolutions, else a vector."""
    side = {"minatar": 10, "nature": 36}.get(torso)
    env, config = shapes_env((side, side, 1) if side else (3,), agent), {"torso": torso, "hidden_sizes": (16, 16)}
    if agent in INSTEAD and torso in ("gru", "lstm", "transformer"):
        with pytest.raises(InputError, match=f"torso = {torso} .* agent '{agent}' .* use agent '{INSTEAD[agent]}'"):
            small_trainer(agent, env, config=config)
        return
    config |= {"num_minibatches": 1} if "num_minibatches" in config_names(agent) else {}
    trainer = small_trainer(agent, env, config=config)
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    assert jax.tree.structure(jax.eval_shape(trainer.step, state)[0]) == jax.tree.structure(state)
    assert jax.tree.leaves(state.memory) or torso not in ("gru", "lstm", "transformer")
    if torso == "gru":  # evaluations of those without memory are compiled above
        jax.eval_shape(lambda s: jaxrl.evaluate(trainer, s, jax.random.key(1), episodes=3), state)


def shapes_env(shape, agent):
    """Observations of a shape; actions that the agent takes."""

    def reset(key, params):
        return jnp.int32(0), jnp.zeros(shape)

    def step(key, state, action, params):
        return state + 1, EnvStep(jnp.zeros(shape), jnp.float32(0), state > 8, jnp.bool_(False))

    return Env(EnvSpec("Shapes", Box(shape), Box((1,), -1.0, 1.0) if agent == "td3" else Discrete(2)), (), reset, step)


VARIANTS = {
    "dqn": [{}, {"exploration": "boltzmann"}, RAINBOW],
    "thompson": [{}, {"likelihood": "bernoulli"}],
    "neural_bandit": [{}, {"exploration": "bayesian"}],
    "ppo": [{"kl_stop": True}, {"kl_penalty": True}],
    "r2d2": [{"target_update_every": 100}],
} | {
    agent: [{}, {"exploration": "boltzmann"}]
    for agent in AGENTS
    if {"temperature", "epsilon_start"} <= set(hparam_names(agent)) and agent != "dqn"
}
# Where a default makes another setting idle.
BASE = {
    "ppo": {"learning_rate": 1e-2, "learning_rate_anneal": 0.5},  # large steps, so that KL comes to its target
    "dqn": {"max_grad_norm": 0.01, "adam_epsilon": 1e-3},  # so small, and so large, that they show
    "r2d2": {"max_grad_norm": 0.01, "adam_epsilon": 1e-3},
    "epsilon_greedy": {"epsilon_start": 0.5, "learning_rate": 0.5, "learning_rate_decay": 0.5},
}


@pytest.mark.parametrize("agent", AGENTS)
def test_hyperparameters_change_without_a_retrace_and_each_matters(agent):
    """A setting of an option matters where the option is on: VARIANTS lists the configurations."""
    idle = set(hparam_names(agent))
    for config in VARIANTS.get(agent, [{}]):
        decayed = {"optimizer": "adamw"} if "weight_decay" in idle else {}
        held = {"kl_to_init": 0.1} if "kl_to_init" in idle else {}
        trainer = small_trainer(agent, total_steps=600, config=decayed | config, hparams=held | BASE.get(agent, {}))
        traces = 0

        def train(key, hparams, trainer=trainer):
            nonlocal traces
            traces += 1
            return trainer.train(key, hparams)

        program, base = jax.jit(train, compiler_options=QUICK), trainer.hparams
        baseline = program(jax.random.key(3), base)[0].agent
        for name in sorted(idle):
            value = getattr(base, name)
            if value is None:  # switched off: tests of its own
                idle.remove(name)
                continue
            changed = dataclasses.replace(base, **{name: 0.3 if value == 0 else value * 0.3})
            state = program(jax.random.key(3), changed)[0].agent
            if not all(equal(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(baseline), strict=True)):
                idle.remove(name)
        assert traces == 1
    assert not idle, f"{agent}: {idle} change nothing"


SPREAD = ("neural_bandit", "pqn", "r2d2", "reinforce", "gru")


@pytest.mark.parametrize("case", [*(case for case in CASES if case != "rainbow"), *released("rainbow")])
def test_a_member_is_the_same_alone_among_others_and_however_it_is_cut(case, tmp_path):
    """The driver's program, to the bit: in chunks of any length, stored and read back between them, on two devices.

    On two devices those of SPREAD, compiled nearly as users' programs are; `test_sameness` has the other agents that have
    networks, though not the variants rainbow and transformer. Tables take no sums, whose order could differ.
    """
    trainer, start = small_case(case), start_of(case)
    chunk = member_program(case, WIDTH)
    initial, total = checkpoint.to_host(start), trainer.num_iterations
    whole, rows = chunk(start, np.int32(total))
    whole = checkpoint.to_host(whole)
    if case in SPREAD:
        layout = Layout(WIDTH - 1, 2)  # two and one, which is padded to two
        first = jax.device_put(layout.pad(layout.unpad(start)), layout.sharding)
        spread = checkpoint.to_host(member_program(case, WIDTH - 1, 2)(first, np.int32(total))[0])
        assert_trees_equal(jax.tree.map(lambda x: x[: WIDTH - 1], spread), jax.tree.map(lambda x: x[: WIDTH - 1], whole))
    state, parts = start, []
    for n in (1, 3, total - 4):
        state, part = chunk(state, np.int32(n))
        parts.append(jax.tree.map(lambda x, n=n: np.asarray(x)[:, :n], part))
        if n == 3:
            checkpoints = Checkpoints(tmp_path)
            checkpoints.save(4, checkpoint.to_host(state), {})
            state = checkpoints.restore(jax.eval_shape(lambda s: s, state))[0]
    assert_trees_equal(checkpoint.to_host(state), whole)
    cut = jax.tree.map(lambda *x: np.concatenate(x, 1), *parts)
    assert_trees_equal(cut, jax.tree.map(lambda x: np.asarray(x)[:, :total], rows))
    assert_nothing_is_shared(initial, whole)


def options_of(case):
    return NEARLY if case in SPREAD else QUICK


@functools.cache
def start_of(case, members=WIDTH):
    """The states of the first seeds before the first step; `test_networks` compares initialisations."""
    init = jax.jit(jax.vmap(small_case(case).init)).lower(root_keys(members))
    assert_calls_no_linear_algebra(init)
    return init.compile(compiler_options=QUICK)(root_keys(members))


@functools.cache
def member_program(case, members, devices=1):
    """The driver's compiled chunk for the first seeds."""
    layout, trainer = Layout(members, devices), small_case(case)
    chunk = layout.map(programs.make_chunk(trainer))
    padded = jax.eval_shape(layout.pad, jax.eval_shape(layout.unpad, start_of(case)))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.sharding), padded)
    lowered = chunk.lower(like, np.int32(1))
    assert_calls_no_linear_algebra(lowered)
    return lowered.compile(compiler_options=options_of(case))


def assert_calls_no_linear_algebra(lowered):
    """LAPACK called for many members at once hangs XLA:CPU now and then, and rounds by their number."""
    words = ("lapack", "geqrf", "getrf", "cusolver", "householder")
    assert not [word for word in words if word in lowered.as_text().lower()]


def assert_nothing_is_shared(initial, whole):
    """Pair by pair, seeds draw other weights and learn something else. Host states [WIDTH, ...]."""
    kernels = [x for path, x in jax.tree_util.tree_leaves_with_path(initial.agent) if "kernel" in str(path[-1])]
    for a, b in itertools.combinations(range(WIDTH), 2):
        assert not any(equal(x[a], x[b]) for x in kernels if np.any(x))
        assert not all(equal(x[a], x[b]) for x in jax.tree.leaves(whole.agent))


@pytest.mark.parametrize("case", ["q_learning", "reinforce"])
def test_train_is_the_drivers_program(case):
    """`jit(vmap(train))` and chunks give the same bits, also at width one, which is computed as two."""
    trainer, options = small_case(case), options_of(case)
    start = jax.jit(jax.vmap(trainer.init), compiler_options=options)(root_keys())
    driven, rows = member_program(case, WIDTH)(start, np.int32(trainer.num_iterations))
    train = jax.jit(jax.vmap(trainer.train), compiler_options=options)
    states, metrics = train(root_keys())
    assert_trees_equal(train(root_keys()[2:3])[0], jax.tree.map(lambda x: x[2:3], states))
    assert_trees_equal(states, driven)
    assert_trees_equal(metrics, jax.tree.map(lambda x: np.asarray(x)[:, : trainer.num_iterations], rows))


@pytest.mark.parametrize("agent", ["q_learning", *released("dqn")])
def test_the_unvmapped_program_agrees_over_ten_thousand_steps(agent):
    trainer = small_trainer(agent, total_steps=10_000)
    assert_agrees(jax.jit(trainer.train)(root_keys()[0]), jax.jit(jax.vmap(trainer.train))(root_keys(1)))


def assert_agrees(alone, vmapped):
    """(state, metrics) of the first seed, un-vmapped, beside those of several."""
    (state, metrics), (states, rows) = alone, vmapped
    for name in metrics:
        np.testing.assert_allclose(metrics[name], rows[name][0], rtol=1e-5, atol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(state.agent), jax.tree.leaves(states.agent), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b[0], rtol=1e-4, atol=1e-5)
