"""envs/transforms.py: each transform by hand, on an environment that does as it is told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from benchmarks.oracles import value_iteration
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.vectorize import vectorize
from jaxrl.envs import transforms
from jaxrl.envs.transforms import (
    ShapeState,
    clip_actions,
    clip_rewards,
    flatten,
    one_hot,
    rescale_actions,
    scale_rewards,
    shape_rewards,
    stack_frames,
    sticky_actions,
)
from jaxrl.experiment import registry
from tests.told import HYBRID, KEY, observing, play, steps_of, told


@pytest.mark.parametrize(
    ("last", "reward"),
    [
        (0, 28.0),  # 30 + 0.5 · 10 - 7
        (1, 23.0),  # the potential of a terminal state is 0
        (2, 28.0),  # that of a truncated one is not
        (3, 23.0),  # the agent does not bootstrap where it is both
    ],
)
def test_shaped_rewards(last, reward):
    env = shape_rewards(told(), lambda obs: 3 * obs[1] + 1, 0.5)  # potentials 1, 4, 7, 10
    found = [out.reward for out in play(env, [0, 0, last])]
    np.testing.assert_allclose(found, [11.0, 19.5, reward])  # 10 + 0.5 · 4 - 1; 20 + 0.5 · 7 - 4
    assert env.spec.id == "Told+shape_rewards(0.5)"


def all_steps(env, shaped, potential):
    """P(s' | s, a) and r(s, a) of a deterministic environment, out of its own step in every state."""
    states, actions = env.spec.observation_space.n, env.spec.action_space.n
    s, a = map(jnp.asarray, np.divmod(np.arange(states * actions), actions))
    inner = type(env.reset(KEY, env.params)[0])(s, jnp.zeros_like(s))
    state = ShapeState(inner, potential[s]) if shaped else inner
    step = (shape_rewards(env, lambda obs: potential[obs], 0.9) if shaped else env).step
    _, out = jax.jit(jax.vmap(step, (None, 0, 0, None)))(KEY, state, a, env.params)
    probability = np.eye(states)[out.obs] * ~np.asarray(out.terminated)[:, None]
    return probability.reshape(states, actions, states), np.asarray(out.reward, float).reshape(states, actions)


@pytest.mark.parametrize("name", ["Garnet", "CliffWalking"])  # the latter terminates
def test_shaping_keeps_the_optimal_policy(name):
    env = registry.find_env(name, {"branching": 1} if name == "Garnet" else {})
    env = env._replace(params=registry.with_params(name, env.params, {"noise": 0.0} if name == "Garnet" else {}))
    potential = 5 * jax.random.normal(KEY, (env.spec.observation_space.n,))
    q = value_iteration(*all_steps(env, False, potential), 0.9)
    shaped = value_iteration(*all_steps(env, True, potential), 0.9)
    if name == "CliffWalking":  # the goal is never left: what the table says of it means nothing
        q, shaped, potential = q[:-1], shaped[:-1], potential[:-1]
    np.testing.assert_allclose(shaped, q - np.asarray(potential)[:, None], atol=1e-4)
    best = [x > x.max(1, keepdims=True) - 1e-3 for x in (q, shaped)]
    np.testing.assert_array_equal(*best)
    assert np.ptp(potential) > 5 and not best[0].all(1).any()


def test_scaled_and_clipped_rewards():
    cases = [
        (scale_rewards(told(), 0.5), [5, 10, 15]),
        (scale_rewards(told(), -1), [-10, -20, -30]),
        (clip_rewards(told()), [1, 1, 1]),
        (clip_rewards(scale_rewards(told(), -1)), [-1, -1, -1]),
        (clip_rewards(told(), 15, 20), [15, 20, 20]),
        (scale_rewards(clip_rewards(told(), 15, 20), 2), [30, 40, 40]),  # the last one applied comes last
    ]
    for env, expected in cases:
        np.testing.assert_allclose([out.reward for out in play(env, [0, 0, 0])], expected)


def test_a_number_may_be_traced():
    def second(scale, gamma, low, probability):
        env = shape_rewards(clip_rewards(scale_rewards(told(), scale), low, 12.0), lambda obs: obs[1], gamma)
        env = sticky_actions(env, probability)
        assert env.spec.id.startswith("Told+scale_rewards(traced)+clip_rewards(traced, 12)")
        state, _ = env.reset(KEY, env.params)
        state, _ = env.step(KEY, state, jnp.int32(0), env.params)
        return env.step(KEY, state, jnp.int32(0), env.params)[1].reward

    found = jax.jit(jax.vmap(second))(
        *map(jnp.float32, ([0.5, 1.0, 0.1], [1.0, 0.5, 0.0], [0.0, 0.0, 5.0], [0.0, 0.5, 1.0]))
    )
    np.testing.assert_allclose(found, [10 + 2 - 1, 12 + 1 - 1, 5 + 0 - 1])


def test_clipped_and_rescaled_actions():
    box = HYBRID.spaces[1]
    clipped, scaled = clip_actions(told(actions=box)), rescale_actions(told(actions=box))
    (out,) = play(clipped, [jnp.array([[-2.0, 6.0]] * 2)[0]])
    np.testing.assert_array_equal(out.metrics["taken"], [-1, 5])
    for action, taken in [
        ([-1, -1], [-1, 0]),
        ([1, 1], [1, 5]),
        ([0, 0], [0, 2.5]),
        ([0.5, 0.2], [0.5, 3]),
        ([3, 3], [3, 10]),
    ]:
        (out,) = play(scaled, [jnp.float32(action)])
        np.testing.assert_allclose(out.metrics["taken"], taken, rtol=1e-6)
    (out,) = play(clip_actions(rescale_actions(told(actions=box), 0, 10)), [jnp.array([-3.0, 30.0])])
    np.testing.assert_array_equal(out.metrics["taken"], [-1, 5])
    assert clipped.spec.action_space == Box((2,)) and scaled.spec.action_space == Box((2,), -1.0, 1.0)


def test_of_a_product_the_continuous_part_is_changed():
    env = clip_actions(rescale_actions(told(actions=HYBRID)))
    assert env.spec.action_space == Product.of(kind=Discrete(3), force=Box((2,)))
    (out,) = play(env, [{"kind": 2, "force": jnp.array([-1.0, 7.0])}])
    np.testing.assert_array_equal(out.metrics["taken"]["kind"], 2)
    np.testing.assert_array_equal(out.metrics["taken"]["force"], [-1, 5])


def test_sticky_actions_repeat_the_one_executed_last():
    """Actions count up by 4, so that each is known again; every fifth truncates, if it is executed."""
    times = np.arange(200)[:, None]
    actions = np.broadcast_to(4 * times + np.where(times % 5 == 4, 2, 0), (200, 64))
    probabilities = np.float32([0.0, 0.25, 1.0])

    def some(probability):
        _, _, out = steps_of(sticky_actions(told(actions=Discrete(1000)), probability), jnp.int32(actions))
        return out.metrics["taken"], out.truncated

    for p, taken, ended in zip(probabilities, *jax.device_get(jax.jit(jax.vmap(some))(probabilities)), strict=True):
        first = np.concatenate([np.ones((1, 64), bool), ended[:-1]])
        repeated = np.concatenate([np.zeros((1, 64), bool), taken[1:] == taken[:-1]])
        np.testing.assert_array_equal(taken, np.where(repeated, np.roll(taken, 1, 0), actions))
        assert not repeated[first].any() and (p == 1 or first.sum() > 64 * 20)
        np.testing.assert_allclose(repeated[~first].mean(), p, atol=5 * np.sqrt(p * (1 - p) / (~first).sum()))


def test_sticky_actions_repeat_every_part():
    env = sticky_actions(told(actions=HYBRID), 1.0)
    action = {"kind": jnp.int32(1), "force": jnp.float32([0.5, 2])}
    first, second = play(env, [action, {"kind": jnp.int32(2), "force": jnp.float32([-1, 3])}])
    for out in (first, second):
        np.testing.assert_array_equal(out.metrics["taken"]["kind"], 1)
        np.testing.assert_array_equal(out.metrics["taken"]["force"], [0.5, 2])


EVERY = {
    "shape_rewards": lambda env: shape_rewards(env, lambda obs: 1, 0.9),  # an int: made a float32
    "scale_rewards": lambda env: scale_rewards(env, 2),
    "clip_rewards": clip_rewards,
    "clip_actions": clip_actions,
    "rescale_actions": rescale_actions,
    "sticky_actions": sticky_actions,
    "stack_frames": lambda env: stack_frames(env, 2),
    "one_hot": lambda env: one_hot(env._replace(spec=dataclasses.replace(env.spec, observation_space=Discrete(2)))),
    "flatten": flatten,
}


@pytest.mark.parametrize("name", EVERY)
def test_types_and_shapes_stay_and_agree_with_the_spec(name):
    observe = (lambda state: state.time) if name == "one_hot" else None
    env = EVERY[name](told(observe, actions=HYBRID))
    action = jax.eval_shape(env.spec.action_space.sample, KEY)
    before, obs = jax.eval_shape(env.reset, KEY, env.params)
    after, out = jax.eval_shape(env.step, KEY, before, action, env.params)
    assert before == after  # structure, shapes, dtypes
    assert not any(x.weak_type for x in jax.tree.leaves((before, after, out.obs, out.reward)))
    space = env.spec.observation_space
    assert all((x.shape, x.dtype) == (space.shape, space.dtype) for x in (obs, out.obs))
    assert (out.reward.shape, out.reward.dtype) == ((), jnp.float32)
    assert hash(env.spec) is not None and env.spec.id.startswith(f"Told+{name}")
    public = [f for f in vars(transforms).values() if getattr(f, "__module__", "") == transforms.__name__]
    assert set(EVERY) == {f.__name__ for f in public if not isinstance(f, type) and not f.__name__.startswith("_")}


def test_pictures_are_drawn_of_the_inner_state():
    env = told(render=lambda state, params: (int(state.time), params))
    for transform in (sticky_actions, EVERY["stack_frames"], EVERY["shape_rewards"], clip_rewards, flatten):
        env = transform(env)
    state, _ = env.reset(KEY, env.params)
    state, _ = env.step(KEY, state, jnp.int32(0), env.params)
    assert env.spec.render(state, "params") == (1, "params")
    walk = registry.find_env("CliffWalking")
    assert sticky_actions(clip_rewards(walk)).spec.grid == walk.spec.grid and one_hot(walk).spec.grid is None


def test_an_agent_learns_in_a_transformed_environment_and_is_evaluated_in_the_inner_one():
    """RandomGame pays 1 a step for 20 steps at best."""
    inner = registry.find_env("RandomGame")
    env = sticky_actions(scale_rewards(inner, 0.5), 0.0)
    trainer = jaxrl.make_trainer("q_learning", env, total_steps=20_000, env_params={"max_steps_in_episode": 20})
    state, metrics = jax.jit(trainer.train)(KEY)
    found = jaxrl.evaluate(dataclasses.replace(trainer, env=inner), state, KEY, 16).returns
    np.testing.assert_allclose(found, 20)
    assert 8 < metrics["episode_return"][-1] <= 10  # ε-greedy, and halved


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda env: scale_rewards(env, "much"), "scale = 'much' must be of type float"),
        (lambda env: scale_rewards(env, np.nan), "scale = nan must be"),
        (lambda env: clip_rewards(env, 1, -1), "low = 1 must not be above high = -1"),
        (lambda env: shape_rewards(env, lambda obs: 0.0, 1.5), "gamma = 1.5 is out of range: must be >= 0 and <= 1"),
        (lambda env: shape_rewards(env, lambda obs: obs, 0.9), r"potential .* must be a scalar, .* shape \(2,\)"),
        (lambda env: sticky_actions(env, -0.1), "probability = -0.1 is out of range: must be >= 0 and <= 1"),
        (lambda env: stack_frames(env, 0), "n = 0 is out of range: must be >= 1"),
        (lambda env: stack_frames(env, 2.5), "n = 2.5 must be"),
        (lambda env: stack_frames(observing(Discrete(2), jnp.int32(0)), 2), r"not Discrete\(2\); apply flatten"),
        (one_hot, r"integers, not Box\(2,\); flatten takes any"),
        (clip_actions, "Told has no continuous actions, but Discrete"),
        (rescale_actions, "Told has no continuous actions, but Discrete"),
        (lambda env: rescale_actions(clip_actions(told(actions=HYBRID))), r"cannot be mapped onto Box\(2,\) between -inf"),
        (lambda env: rescale_actions(told(actions=HYBRID), 1, 1), r"actions in \[1, 1\] cannot be mapped"),
        (lambda env: flatten(vectorize(env, 2)), "flatten takes an Env, not VecEnv"),
        (lambda env: scale_rewards("CartPole-v1", 1), "scale_rewards takes an Env, not str"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message) as error:
        make(told())
    assert "\n" not in str(error.value)
