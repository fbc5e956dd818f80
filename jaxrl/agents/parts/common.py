"""What several agents share: checks of spaces, optimisers, networks along a rollout, target networks, gradient steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.checks import element
from jaxrl.core.errors import InputError
from jaxrl.core.settings import Fraction, hyperparameters
from jaxrl.core.spaces import Discrete, Product, check_mask, has_mask, sizes
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Scalar, Transition
from jaxrl.networks.memory import peek
from jaxrl.ops import exploration


@hyperparameters
class EpsilonSchedule:
    """ε, the probability of a random action: it falls linearly over a first share of training, then stays."""

    epsilon_start: Annotated[float, Fraction] = 1.0
    """Probability of a random action at the first step."""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """Probability of a random action from the end of the schedule on."""
    epsilon_fraction: Annotated[float, Fraction] = 0.5
    """Share of training over which ε falls linearly."""

    def epsilon(self, clock: Clock) -> jax.Array:
        """ε at the clock's progress: float32 []."""
        return exploration.linear_schedule(clock.progress, self.epsilon_start, self.epsilon_end, self.epsilon_fraction)


def discrete_actions(spec: EnvSpec, agent: str) -> int:
    """The number of actions. Raises ValueError where they are not discrete, or the action mask is not theirs."""
    if not isinstance(spec.action_space, Discrete):
        raise InputError(f"agent {agent!r} needs discrete actions; {spec.id} has {spec.action_space}")
    check_mask(spec.observation_space, spec.action_space)
    return spec.action_space.n


def discrete_observations(spec: EnvSpec, agent: str) -> int:
    """The number of observations: integers, or several of them. Raises ValueError where they are not."""
    found = sizes(spec.observation_space)
    if found is None:
        raise InputError(f"agent {agent!r} needs discrete observations; {spec.id} has {spec.observation_space}")
    if (n := math.prod(found)) >= 2**31:
        raise InputError(f"agent {agent!r} has a table; {spec.id} has {n:.0e} observations, too many for one")
    return n


def example_obs(spec: EnvSpec, dtype: Any = None, batch: tuple[int, ...] = ()) -> PyTree:
    """Observations of zeros, leaves [*batch, ...], for tracing shapes. dtype: of one that is one array, None for its own."""
    example = element(spec.observation_space)
    if dtype and not isinstance(spec.observation_space, Product):
        example = jax.ShapeDtypeStruct(example.shape, jnp.dtype(dtype))
    return jax.tree.map(lambda x: jnp.zeros((*batch, *x.shape), x.dtype), example)


def zero_transitions(spec: EnvSpec, dtype: Any = None, shape: tuple[int, ...] = ()) -> Transition:
    """Transitions of zeros without extras, leaves [*shape, ...], not `valid`; dtype: of observations, None for their own."""
    obs, flag, number = example_obs(spec, dtype), jnp.bool_(False), jnp.float32(0)
    action = jax.eval_shape(spec.action_space.sample, jax.random.key(0))
    step = Transition(obs, flag, action, number, flag, flag, obs, (), flag)
    return jax.tree.map(lambda x: jnp.zeros((*shape, *x.shape), x.dtype), step)


def memoryless_agent(
    init: Callable[..., PyTree],
    act: Callable[..., tuple[PyTree, PyTree]],
    greedy: Callable[..., PyTree],
    learn: Callable[..., tuple[PyTree, Metrics]],
    values: Callable[..., jax.Array] | None = None,
    params_of: Callable[[Any], PyTree] | None = None,
) -> Agent:
    """The agent without memory of these functions; init, learn, values and params_of are as in `Agent`.

    act: (hparams, state, obs [N, ...], clock, key) -> (action [N, ...], extras). greedy: (hparams, state, obs) -> action.
    """

    def act_of_agent(
        hp: Any, state: PyTree, memory: PyTree, obs: PyTree, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[PyTree, PyTree, PyTree]:
        action, extras = act(hp, state, obs, clock, key)
        return action, memory, extras

    def greedy_of_agent(
        hp: Any, state: PyTree, memory: PyTree, obs: PyTree, first: jax.Array, key: Key
    ) -> tuple[PyTree, PyTree]:
        return greedy(hp, state, obs), memory

    return Agent(init, lambda num_envs: (), act_of_agent, greedy_of_agent, learn, values, params_of)


def first_params(network: Any, spec: EnvSpec, key: Key, params: PyTree) -> PyTree:
    """A network's parameters before training: `params`, or drawn where it is None.

    network: called as (memory, obs, first), with a method `initial`.
    """
    if params is not None:
        return params
    return network.init(key, network.initial(1), example_obs(spec, batch=(1, 1)), jnp.ones((1, 1), bool))


def one_step(network: Any, params: PyTree, memory: PyTree, obs: PyTree, first: jax.Array) -> tuple[PyTree, PyTree]:
    """A network with or without memory on one step of N environments, obs [N, ...]: (out [N, ...], memory).

    With a memory it is an unroll of length one, so that learning computes what acting did.
    """
    if not network.remembers:
        return network.apply(params, memory, obs)
    out, memory = network.apply(params, memory, *jax.tree.map(lambda x: x[None], (obs, first)))
    return jax.tree.map(lambda x: x[0], out), memory


def network_agent(
    network: Any,
    init: Any,
    learn: Any,
    params_of: Callable[[Any], PyTree],
    sample: Callable[[Any, Any, Clock, Key], tuple[PyTree, PyTree]],
    best: Callable[[Any], PyTree],
) -> Agent:
    """The agent that acts by the output of a network with or without memory; init and learn are as in `Agent`.

    params_of: state -> the network's parameters. sample: (hparams, output [N, ...], clock, key) -> (action, extras).
    best: output [N, ...] -> the greedy action.
    """

    def act(
        hp: Any, state: Any, memory: PyTree, obs: PyTree, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[PyTree, PyTree, PyTree]:
        out, memory = one_step(network, params_of(state), memory, obs, first)
        action, extras = sample(hp, out, clock, key)
        return action, memory, extras

    def greedy(hp: Any, state: Any, memory: PyTree, obs: PyTree, first: jax.Array, key: Key) -> tuple[PyTree, PyTree]:
        out, memory = one_step(network, params_of(state), memory, obs, first)
        return best(out), memory

    return Agent(init, network.initial, act, greedy, learn, params=params_of)


def epsilon_greedy_agent(
    network: Any, init: Any, learn: Any, params_of: Callable[[Any], PyTree], extras_of: Any = lambda q: ()
) -> Agent:
    """The agent that acts ε-greedily by a network of one value an action. extras_of: Q(s, ·) float32 [N, A] -> extras."""

    def sample(hp: EpsilonSchedule, out: jax.Array, clock: Clock, key: Key) -> tuple[jax.Array, PyTree]:
        q = out[..., 0]
        return epsilon_greedy_actions(key, q, hp.epsilon(clock), has_mask(network.space)), extras_of(q)

    return network_agent(network, init, learn, params_of, sample, lambda out: exploration.greedy(out[..., 0]))


def epsilon_greedy_actions(key: Key, q_values: jax.Array, epsilon: Scalar, masked: bool = False) -> jax.Array:
    """ε-greedy actions int32 [N] of N environments, each by a key of its own; q_values float32 [N, A]."""
    keys = jax.random.split(key, len(q_values))
    return jax.vmap(partial(exploration.epsilon_greedy, masked=masked), (0, 0, None))(keys, q_values, epsilon)


def unroll(
    apply: Callable[..., tuple[jax.Array, PyTree]], params: PyTree, memory: PyTree, steps: Any
) -> tuple[jax.Array, jax.Array]:
    """The output of a network with memory at obs and, without a gradient, at next_obs of every step: [T, N, ...] each.

    apply: (params, memory, obs [T, N, ...], first [T, N]) -> (out [T, N, ...], memory). memory: before the first step,
    leaves [N, ...]. Each next_obs is seen with the memory after its step.
    """
    obs = jax.tree.map(lambda x, after: jnp.concatenate([x, after[-1:]]), steps.obs, steps.next_obs)
    first = jnp.concatenate([steps.first, jnp.zeros_like(steps.first[-1:])])
    out, _ = apply(params, memory, obs, first)
    fixed = partial(apply, jax.lax.stop_gradient(params))
    return out[:-1], next_outputs_with_memory(fixed, memory, steps, jax.lax.stop_gradient(out[1:]))


def next_outputs_with_memory(
    apply: Callable[..., tuple[jax.Array, PyTree]], memory: PyTree, steps: Transition, shifted: jax.Array
) -> jax.Array:
    """A network's output at each next_obs with the memory after its step: [T, N, ...].

    apply: (memory, obs, first) -> (out, memory). shifted [T, N, ...]: the outputs at obs a step later, the last at next_obs.
    """
    return _where_truncated(steps, lambda: peek(apply, memory, steps.obs, steps.first, steps.next_obs), shifted)


def next_values(value_of: Callable[[PyTree], jax.Array], steps: Transition, values: jax.Array) -> jax.Array:
    """V(next_obs) of every step, without a memory: float32 [T, N], whatever an auto-reset put into the next row.

    value_of: observations [B, ...] -> V [B]. values: V(obs) [T, N] under the same parameters.
    """
    last = value_of(jax.tree.map(lambda x: x[-1], steps.next_obs))
    shifted = jnp.concatenate([values[1:], last[None]])
    return _where_truncated(steps, lambda: value_of(trees.flatten_time(steps.next_obs)).reshape(values.shape), shifted)


def _where_truncated(steps: Transition, everywhere: Callable[[], jax.Array], shifted: jax.Array) -> jax.Array:
    """`shifted`, the next rows' outputs, where the episode goes on, else `everywhere()`, those at every next_obs.

    The second pass is taken only where a step before the last was truncated (`vmap` computes it always).
    """

    def with_truncated() -> jax.Array:
        return trees.where(steps.truncated, everywhere(), shifted)

    return jax.lax.cond(steps.truncated[:-1].any(), with_truncated, lambda: shifted)


def when_started(
    started: jax.Array, step: Callable[..., tuple[PyTree, PyTree]], learner: PyTree, *args: PyTree
) -> tuple[PyTree, PyTree]:
    """`step(learner, *args) -> (learner, out)` if `started` (bool []), else the same learner and zeros.

    Let `learner` be parameters and optimiser state, never a replay buffer: `vmap` computes both branches and selects.
    """
    step = jax.jit(step, inline=True)  # traced once for both branches, and then part of the program like any other code

    def wait(learner: PyTree, *args: PyTree) -> tuple[PyTree, PyTree]:
        nothing = jax.eval_shape(step, learner, *args)[1]
        return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)

    return jax.lax.cond(started, step, wait, learner, *args)


def gradient_steps(
    config: Any, clock: Clock, step: Callable[[PyTree, Key], tuple[PyTree, Metrics]], learner: PyTree, key: Key
) -> tuple[PyTree, Metrics]:
    """`gradient_steps` of `step(learner, key) -> (learner, metrics)`, none before `learning_starts`; sums of metrics.

    config: of an agent with these two settings.
    """

    def step_once_started(learner: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        return when_started(clock.env_steps >= config.learning_starts, step, learner, key)

    learner, metrics = jax.lax.scan(step_once_started, learner, jax.random.split(key, config.gradient_steps))
    return learner, jax.tree.map(lambda x: x.sum(0), metrics)


def one_by_one(
    update: Callable[[PyTree, Transition], tuple[PyTree, PyTree]], state: PyTree, steps: Transition
) -> tuple[PyTree, PyTree]:
    """`update(state, step) -> (state, out)` for each transition of `steps` [T, N] in turn, time first: outs [T * N].

    For agents whose learning is one update a step: added up at once, N environments at one entry of a table would move
    it N times too far.
    """
    return jax.lax.scan(update, state, trees.flatten_time(steps))
