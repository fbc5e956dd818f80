"""agents/sac.py: its losses and gradients by hand, on networks whose outputs are their heads' biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import sac
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.replay.ring import Batch

DISCRETE = EnvSpec("Two", Box((3,)), Discrete(2))
BOX = EnvSpec("Reach", Box((3,)), Box((2,), -2.0, 2.0))
CONFIG = {"num_envs": 1, "hidden_sizes": (4,), "replay_capacity": 8, "batch_size": 2}
SAMPLE = jax.random.key(0)


def with_biases(params, path, bias):
    """All parameters 0 but the bias at `path`."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    at = zeros["params"]
    for name in path[:-1]:
        at = at[name]
    assert at[path[-1]].shape == bias.shape
    at[path[-1]] = bias
    return zeros


def setup(spec, logits_or_mean, critics, **config):
    """π and both critics constant over observations; α = ½."""
    config = sac.Config(**(CONFIG | config))
    nets, hp = sac.networks(spec, config), sac.HParams(gamma=0.5, temperature=0.5)
    params = sac.make(spec, config).init(jax.random.key(0), hp).learner.params
    critic = with_biases(params.critic, ("Dense_0", "bias"), jnp.array(critics, jnp.float32))
    actor = with_biases(params.actor, ("PolicyHead_0", "Dense_0", "bias"), jnp.array(logits_or_mean, jnp.float32))
    return nets, config, hp, sac.Params(actor, critic, jnp.log(0.5))


def batch(action, discount=(0.5, 0.0)):
    """Rewards 1 and 2; the second terminates."""
    obs = jnp.zeros((2, 3))
    return Batch(obs, action, jnp.array([1.0, 2.0]), jnp.array(discount), obs, jnp.ones(2, bool))


def losses_of(nets, config, hp, params, batch, target=None):
    program = jax.jit(jax.value_and_grad(sac.loss, has_aux=True), static_argnums=(1, 2))
    learner = sac.Learner(params, params.critic if target is None else target, ())
    (total, metrics), grads = program(params, nets, config, hp, Clock(jnp.int32(0), jnp.float32(0)), learner, batch, SAMPLE)
    return total, {name: float(mean.value) for name, mean in metrics.items()}, grads


def test_discrete_losses_by_hand():
    """π = (¾, ¼), Q_1 = (1, 3), Q_2 = (2, 2): min (1, 2). V = ¾ · 1 + ¼ · 2 + ½ H. Targets: 1 + ½ V and 2."""
    nets, config, hp, params = setup(DISCRETE, [np.log(3.0), 0.0], [[1.0, 3.0], [2.0, 2.0]])
    total, metrics, grads = losses_of(nets, config, hp, params, batch(jnp.array([0, 1])))
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    value = 1.25 + 0.5 * entropy
    target = np.array([1 + 0.5 * value, 2.0])
    q = np.array([[1.0, 3.0], [2.0, 2.0]])  # [critic, row]: actions 0 and 1
    critic_loss = (0.5 * (target - q) ** 2).sum(0).mean()
    np.testing.assert_allclose(metrics["critic_loss"], critic_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["actor_loss"], -value, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
    aim = 0.89 * np.log(2)
    np.testing.assert_allclose(total, critic_loss - value - np.log(0.5) * (aim - entropy), rtol=1e-5)
    np.testing.assert_allclose(grads.log_temperature, entropy - aim, rtol=1e-4)  # lower α where entropy is above its aim
    expected = np.zeros((2, 2))
    for row, action in enumerate((0, 1)):
        expected[:, action] += (q[:, row] - target[row]) / 2
    np.testing.assert_allclose(grads.critic["params"]["Dense_0"]["bias"], expected, rtol=1e-5)
    # d/dθ_0 of -(Σ π min Q + α H), π = softmax(θ): π_0 (A_0 - Σ π A), A = α log π - min Q.
    pi, low = np.array([0.75, 0.25]), np.array([1.0, 2.0])
    a = 0.5 * np.log(pi) - low
    np.testing.assert_allclose(
        grads.actor["params"]["PolicyHead_0"]["Dense_0"]["bias"], pi * (a - (pi * a).sum()), rtol=1e-4
    )


def test_box_losses_by_hand():
    """Critics 3 and 5 everywhere: min 3. log π(a) is of the actions drawn with the loss's own keys."""
    nets, config, hp, params = setup(BOX, [0.3, -0.2, 0.0, 0.0], [[3.0], [5.0]])
    next_key, key = jax.random.split(SAMPLE)
    obs = jnp.zeros((2, 3))
    policy = nets.actor.apply(params.actor, obs)
    after, now = (policy.sample_and_log_prob(k)[1] for k in (next_key, key))
    _, metrics, grads = losses_of(nets, config, hp, params, batch(jnp.zeros((2, 2))))
    target = np.array([1 + 0.5 * (3 - 0.5 * after[0]), 2.0])
    np.testing.assert_allclose(
        metrics["critic_loss"], (0.5 * (target - np.array([[3.0], [5.0]])) ** 2).sum(0).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(metrics["actor_loss"], np.mean(0.5 * now - 3), rtol=1e-5)
    aim = 2 * np.log(2.0) - 2  # -1 nat a dimension, half of whose width is 2
    np.testing.assert_allclose(grads.log_temperature, -now.mean() - aim, rtol=1e-4)
    errors = np.array([[3.0], [5.0]]) - target
    np.testing.assert_allclose(grads.critic["params"]["Dense_0"]["bias"][:, 0], errors.mean(1), rtol=1e-5)


def test_a_fixed_temperature_has_no_gradient():
    nets, config, hp, params = setup(DISCRETE, [0.0, 0.0], [[1.0, 3.0], [2.0, 2.0]], auto_temperature=False)
    assert losses_of(nets, config, hp, params, batch(jnp.array([0, 1])))[2].log_temperature == 0.0


def test_targets_come_from_the_target_critics():
    nets, config, hp, params = setup(DISCRETE, [0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]])
    far = jax.tree.map(lambda x: 10 * x, params.critic)
    _, metrics, _ = losses_of(nets, config, hp, params, batch(jnp.array([0, 1])), far)
    target = np.array([1 + 0.5 * (10 + 0.5 * np.log(2)), 2.0])
    np.testing.assert_allclose(metrics["critic_loss"], ((target - 1) ** 2).mean(), rtol=1e-5)


def test_targets_follow_every_gradient_step():
    """Q' after k steps of one learning phase against the recursion Q' ← τ Q_k + (1 - τ) Q', Q_k from phases of k steps."""
    hp, tau = sac.HParams(learning_rate=0.05, tau=0.3), 0.3
    flags = jnp.zeros((1, 1), bool)
    obs, action = jnp.ones((1, 1, 3)), jnp.ones((1, 1, 2))
    rollout = Rollout(Transition(obs, flags, action, jnp.ones((1, 1)), flags, flags, obs, (), ~flags), ())
    target = None
    for k in (1, 2, 3):  # the keys of k steps begin as those of k - 1 do
        agent = sac.make(BOX, sac.Config(**(CONFIG | {"gradient_steps": k, "learning_starts": 0})))
        state = agent.init(jax.random.key(0), hp)
        after, _ = jax.jit(agent.learn)(hp, state, rollout, Clock(jnp.int32(1), 0.0), jax.random.key(1))
        before = jax.tree.map(np.asarray, state.learner.target_critic) if target is None else target
        target = jax.tree.map(lambda x, y: tau * np.asarray(x) + (1 - tau) * y, after.learner.params.critic, before)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), after.learner.target_critic, target
        )
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), after.learner.target_critic, state.learner.target_critic)
    assert max(jax.tree.leaves(moved)) > 0.01


def test_actions_are_uniform_before_learning_starts():
    agent = sac.make(DISCRETE, sac.Config(**(CONFIG | {"num_envs": 1000, "replay_capacity": 1000, "learning_starts": 5000})))
    hp = sac.HParams()
    state = agent.init(jax.random.key(0), hp)
    params = state.learner.params
    actor = with_biases(params.actor, ("PolicyHead_0", "Dense_0", "bias"), jnp.array([9.0, -9.0]))
    state = state._replace(learner=state.learner._replace(params=params._replace(actor=actor)))
    obs = jnp.zeros((1000, 3))
    shares = [
        float(agent.act(hp, state, (), obs, None, Clock(jnp.int32(steps), 0.0), jax.random.key(1))[0].mean())
        for steps in (5000, 6000)
    ]
    assert 0.4 < shares[0] < 0.6 and shares[1] == 0.0


def test_the_greedy_action_is_the_mode():
    nets, config, hp, params = setup(BOX, [0.3, -0.2, 0.0, 0.0], [[3.0], [5.0]])
    agent = sac.make(BOX, config)
    state = agent.init(jax.random.key(0), hp, params)
    action, _ = agent.greedy(hp, state, (), jnp.zeros((1, 3)), None, None)
    np.testing.assert_allclose(action, [2 * np.tanh([0.3, -0.2])], rtol=1e-5)


@pytest.mark.parametrize("space", [MultiDiscrete((2, 2)), Box((2,))])
def test_other_actions_are_refused(space):
    with pytest.raises(ValueError, match="agent 'sac' needs discrete actions or a bounded Box; Odd has"):
        sac.make(EnvSpec("Odd", Box((3,)), space), sac.Config())


def test_the_actors_step_size_is_its_own():
    """Adam's first step is as long as the step size, whatever the gradient: 0.01, but 0.003 for the actor if asked."""
    for rate, actor_rate in ((0.0, 0.01), (0.003, 0.003)):
        hp = sac.HParams(learning_rate=0.01, actor_learning_rate=rate)
        params = sac.Params(jnp.zeros(2), jnp.zeros(2), jnp.zeros(()))
        rule = sac.optimizer_of(sac.Config(), hp, 0.0).rule
        updates, _ = rule.update(jax.tree.map(lambda x: x + 5.0, params), rule.init(params))
        for part, step in zip(updates, (actor_rate, 0.01, 0.01), strict=True):
            np.testing.assert_allclose(part, -step, rtol=1e-5)
