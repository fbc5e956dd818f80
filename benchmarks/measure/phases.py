"""Where an iteration's time goes, one seed on one device: `python -m benchmarks run phases`.

An iteration is timed as a whole, and so are its parts as programs of their own: the environments under actions drawn before,
the rollout (environments and acting), and learning. What acting takes is the rollout's time less the environments'; the rest
is the loop's: keys, metrics, bookkeeping.

gemm: PPO's learning on CartPole-v1 beside the bare products and tanh of the same shapes, forward and back, with gradient
descent; and both beside what a core reaches in products of those shapes. Programs take turns; the fastest run counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import jaxrl
from benchmarks.harness import processes
from benchmarks.harness.runner import Part, Row, part_apart
from benchmarks.harness.timing import fastest
from jaxrl import Clock, Rollout, Trainer, TrainState, Transition
from jaxrl.core.types import PyTree

ROUNDS, PROCESSES = 40, 7
WORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo": ("ppo", "CartPole-v1", {}),
    "dqn": ("dqn", "CartPole-v1", {"hidden_sizes": (64, 64)}),
    "breakout": ("ppo", "Breakout-MinAtar", {"num_epochs": 4, "num_minibatches": 8}),
}
BATCH, UNITS, LAYERS = 128, 64, ((4, 64), (64, 64))  # of a minibatch of PPO on CartPole-v1, and of each network's torso


def environments(trainer: Trainer) -> Callable[[TrainState], PyTree]:
    """The steps of one iteration under random actions, reset pool included."""
    vec, steps, n = trainer.vec, trainer.num_updates * trainer.rollout_length, trainer.vec.num_envs
    space = trainer.env.spec.action_space

    def program(state: TrainState) -> PyTree:
        keys = jax.random.split(jax.random.key(0), (steps, n))
        actions = jax.vmap(jax.vmap(space.sample))(keys)

        def step(carry: tuple, xs: tuple) -> tuple:
            env, pool = carry
            action, keys = xs
            env, obs, pool, out = vec.step(keys, env, pool, action, state.env_params)
            return (env, pool), (obs, out.reward)

        pool = vec.prepare(jax.random.key(1), state.env_params)
        return jax.lax.scan(step, (state.env, pool), (actions, keys))

    return jax.jit(program)


def rollout(trainer: Trainer, steps: int) -> Callable[[TrainState], Rollout]:
    """`steps` steps of the environments under the agent."""
    vec, agent, n = trainer.vec, trainer.agent, trainer.vec.num_envs

    def program(state: TrainState) -> Rollout:
        keys = jax.random.split(jax.random.key(2), steps), jax.random.split(jax.random.key(3), (steps, n))

        def step(carry: tuple, xs: tuple) -> tuple:
            env, pool, obs, first, memory = carry
            act_key, env_keys = xs
            clock = Clock(jnp.int32(0), jnp.float32(0))
            action, memory, extras = agent.act(state.hparams, state.agent, memory, obs, first, clock, act_key)
            env, next_obs, pool, out = vec.step(env_keys, env, pool, action, state.env_params)
            valid = jnp.broadcast_to(out.valid, out.reward.shape)
            row = Transition(obs, first, action, out.reward, out.terminated, out.truncated, out.obs, extras, valid)
            return (env, pool, next_obs, out.terminated | out.truncated, memory), row

        pool = vec.prepare(jax.random.key(1), state.env_params)
        carry = (state.env, pool, state.obs, state.first, state.memory)
        return Rollout(jax.lax.scan(step, carry, keys)[1], state.memory)

    return jax.jit(program)


def learning(trainer: Trainer) -> Callable[[TrainState, Rollout, Clock], PyTree]:
    """The learning of one iteration, from one rollout again and again."""

    def program(state: TrainState, steps: Rollout, clock: Clock) -> PyTree:
        def learn(learner: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
            return trainer.agent.learn(state.hparams, learner, steps, clock, key)

        return jax.lax.scan(learn, state.agent, jax.random.split(jax.random.key(4), trainer.num_updates))

    return jax.jit(program)


def shares(name: str, smoke: bool) -> dict[str, Any]:
    """Seconds and shares of one work's iteration."""
    processes.one_device()
    agent, env, config = WORKS[name]
    if smoke:
        config = {**config, "num_envs": 4, "rollout_length": 16}
    trainer = jaxrl.make_trainer(agent, env, config=config)
    state = jax.jit(trainer.init)(jax.random.key(0))
    steps = rollout(trainer, trainer.rollout_length)(state)
    clock = Clock(jnp.int32(trainer.total_steps // 2), jnp.float32(0.5))
    times = fastest(
        {
            "iteration": (jax.jit(trainer.step), (state._replace(iteration=jnp.int32(trainer.num_iterations // 2)),)),
            "environments": (environments(trainer), (state,)),
            "rollout": (rollout(trainer, trainer.num_updates * trainer.rollout_length), (state,)),
            "learn": (learning(trainer), (state, steps, clock)),
        },
        1 if smoke else ROUNDS,
    )
    whole = times["iteration"]
    parts = {
        "environments": times["environments"],
        "act": times["rollout"] - times["environments"],
        "learn": times["learn"],
        "loop": whole - times["rollout"] - times["learn"],
    }
    return {
        "work": f"{agent.upper()} {env}",
        "steps_per_s": round(trainer.steps_per_iteration / whole),
        "seconds": times,
        "share": {kind: seconds / whole for kind, seconds in parts.items()},
    }


def bare(params: PyTree, batches: jax.Array) -> PyTree:
    """Gradient descent of two torsos with heads on their outputs' squares: products, tanh and their gradients."""

    def outputs(params: PyTree, x: jax.Array) -> jax.Array:
        total = jnp.zeros(())
        for first, second, head in params:
            total += jnp.square(jnp.tanh(jnp.tanh(x @ first) @ second) @ head).sum()
        return total

    def step(params: PyTree, x: jax.Array) -> tuple[PyTree, None]:
        return jax.tree.map(lambda p, g: p - 1e-4 * g, params, jax.grad(outputs)(params, x)), None

    return jax.lax.scan(step, params, batches)[0]


def products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A thousand products [128, 64] × [64, 64] in turn."""
    return jax.lax.fori_loop(0, 1000, lambda _, y: y @ kernel, x)


def gemm_limit(smoke: bool) -> dict[str, Any]:
    """PPO's learning beside the bare products, and FLOP/s."""
    processes.one_device()
    trainer = jaxrl.make_trainer("ppo", "CartPole-v1")
    state = jax.jit(trainer.init)(jax.random.key(0))
    steps = rollout(trainer, trainer.rollout_length)(state)
    clock = Clock(jnp.int32(trainer.total_steps // 2), jnp.float32(0.5))
    keys = jax.random.split(jax.random.key(5), 6)
    nets = [
        [0.1 * jax.random.normal(k, shape) for k, shape in zip(keys[i : i + 3], (*LAYERS, (64, out)), strict=True)]
        for i, out in ((0, 2), (3, 1))
    ]
    batches = jnp.tile(steps.steps.obs.reshape(4, BATCH, 4), (4, 1, 1))  # 4 epochs of 4 minibatches
    x, kernel = jnp.ones((BATCH, UNITS)), jnp.eye(UNITS)
    times = fastest(
        {
            "learn": (learning(trainer), (state, steps, clock)),
            "bare": (jax.jit(bare), (nets, batches)),
            "products": (jax.jit(products), (x, kernel)),
        },
        1 if smoke else ROUNDS,
    )
    each = 2 * BATCH * sum(3 * i * o for net in nets for i, o in (w.shape for w in net))  # forward, to weights, to inputs
    each -= 2 * BATCH * sum(net[0].size for net in nets)  # observations need no gradient
    return {
        "work": "PPO CartPole-v1, learning",
        "seconds": times,
        "ratio": times["learn"] / times["bare"],
        "gflop_per_s": {
            "learn": 16 * each / times["learn"] / 1e9,
            "bare": 16 * each / times["bare"] / 1e9,
            "products [128, 64] × [64, 64]": 1000 * 2 * BATCH * UNITS**2 / times["products"] / 1e9,
        },
        "must": "ratio <= 1.25",
    }


def gemm(smoke: bool) -> Iterator[Row]:
    """The run in the middle of some, in processes of their own: buffers lie better in some than in others."""
    runs = sorted(
        (processes.apart(smoke, gemm_limit, smoke) for _ in range(1 if smoke else PROCESSES)), key=lambda run: run["ratio"]
    )
    yield {**runs[len(runs) // 2], "ratios": [run["ratio"] for run in runs]}


PARTS: dict[str, Part] = {**{name: part_apart(shares, name) for name in WORKS}, "gemm": gemm}
SMOKES = ("dqn", "gemm")
