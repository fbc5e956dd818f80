"""agents/td3.py: its losses by hand, on networks whose outputs are their heads' biases; delay, noise and bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import sac, td3
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.replay.ring import Batch

SPEC = EnvSpec("Reach", Box((3,)), Box((2,), (-2.0, 0.0), (2.0, 1.0)))
CONFIG = td3.Config(num_envs=1000, hidden_sizes=(4,), replay_capacity=1000, batch_size=2, learning_starts=0)
OBS = jnp.zeros((2, 3))
BATCH = Batch(OBS, jnp.zeros((2, 2)), jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0]), OBS, jnp.ones(2, bool))


def parameters(action=(0.0, 0.0), critics=(3.0, 5.0), slope=None):
    """The actor's output before tanh and both critics' output; slope: of critic 1 in the first action, by one unit."""
    nets = td3.networks(SPEC, CONFIG)
    state = td3.make(SPEC, CONFIG).init(jax.random.key(0), td3.HParams())
    actor, critic = (jax.tree.map(jnp.zeros_like, x) for x in state.learner.params)
    actor["params"]["Dense_0"]["bias"] = jnp.array(action, jnp.float32)
    critic["params"]["Dense_0"]["bias"] = jnp.array(critics, jnp.float32)[:, None]
    if slope is not None:
        critic["params"]["MLP_0"]["Dense_0"]["kernel"] = jnp.zeros((2, 5, 4)).at[0, 3, 0].set(slope)
        critic["params"]["MLP_0"]["Dense_0"]["bias"] = jnp.ones((2, 4))  # keeps the unit above 0
        critic["params"]["Dense_0"]["kernel"] = jnp.zeros((2, 4, 1)).at[0, 0, 0].set(1.0)
    return nets, td3.Params(actor, critic)


def test_critic_loss_by_hand():
    """min(3, 5) = 3: targets 1 + ½ · 3 and 2. ½ (2.5 - 3)² + ½ (2.5 - 5)², and ½ 1² + ½ 3²; their mean is 4.125."""
    nets, params = parameters()
    value, metrics = jax.jit(td3.critic_loss, static_argnums=(1, 2))(
        params.critic, nets, td3.Config(), td3.HParams(), params, BATCH, jax.random.key(0)
    )
    np.testing.assert_allclose(value, (0.125 + 3.125 + 0.5 + 4.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["q_value"].value, 4.0, rtol=1e-6)


def test_the_target_action_carries_clipped_noise_within_the_bounds():
    """Critic 1 is 1 + u, u the first action in ± 1, critic 2 lies above: huge noise is cut to ± ½, and 0.9 + ½ to 1."""
    nets, params = parameters((np.arctanh(0.9), 0.0), (0.0, 100.0), slope=1.0)
    hp = td3.HParams(target_noise=1e6, target_noise_clip=0.5)
    found = set()
    for seed in range(8):
        key = jax.random.key(seed)
        value, _ = td3.critic_loss(params.critic, nets, td3.Config(), hp, params, BATCH, key)
        up = np.asarray(nets.noise(key, 2))[0, 0] > 0
        following = 1 + (1.0 if up else 0.4)
        q = np.array([1.0, 100.0])  # at u = 0
        rows = [(1 + 0.5 * following - q) ** 2, (2 - q) ** 2]
        np.testing.assert_allclose(value, 0.5 * np.sum(rows) / 2, rtol=1e-5)
        found.add(bool(up))
    assert found == {True, False}


def test_actor_gradient_by_hand():
    """Q_1 = 1 + 2 tanh(b): -dQ/db = -2 (1 - tanh²)."""
    nets, params = parameters((0.3, 0.0), (0.0, 0.0), slope=2.0)
    grads = jax.grad(td3.actor_loss, has_aux=True)(params.actor, nets, params.critic, BATCH)[0]
    np.testing.assert_allclose(grads["params"]["Dense_0"]["bias"], [-2 * (1 - np.tanh(0.3) ** 2), 0.0], rtol=1e-5)


def test_exploration_is_in_units_of_half_the_range_and_bounded():
    nets, params = parameters((0.0, 0.0))
    agent, hp = td3.make(SPEC, CONFIG), td3.HParams(exploration_noise=0.1)
    state = agent.init(jax.random.key(0), hp, params)
    obs, late = jnp.zeros((1000, 3)), Clock(jnp.int32(10**6), 1.0)
    noisy = np.asarray(agent.act(hp, state, (), obs, None, late, jax.random.key(1))[0])
    np.testing.assert_allclose(noisy.std(0), [0.2, 0.05], rtol=0.1)
    np.testing.assert_allclose(noisy.mean(0), [0.0, 0.5], atol=0.02)
    np.testing.assert_allclose(agent.greedy(hp, state, (), obs, None, None)[0][0], [0.0, 0.5], atol=1e-6)
    wild = agent.act(td3.HParams(exploration_noise=100.0), state, (), obs, None, late, jax.random.key(1))[0]
    assert bool(jax.vmap(SPEC.action_space.contains)(wild).all())


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_the_actor_and_the_targets_wait(delay):
    """Six steps of the critics, one by one: the actor moves at every delay-th only, by then the targets too."""
    config = {"num_envs": 1, "gradient_steps": 1, "learning_starts": 4, "policy_delay": delay, "hidden_sizes": (4,)}
    config |= {"batch_size": 4, "replay_capacity": 100, "updates_per_iteration": 1}
    trainer = jaxrl.make_trainer("td3", "Pendulum-v1", total_steps=9, config=config)
    step, state, moved = jax.jit(trainer.step), trainer.init(jax.random.key(0)), []
    for _ in range(9):
        after, _ = step(state)

        def differs(name, a=state.agent.learner, b=after.agent.learner):
            pairs = zip(jax.tree.leaves(getattr(a, name)), jax.tree.leaves(getattr(b, name)), strict=True)
            return any(not np.array_equal(x, y) for x, y in pairs)

        moved.append((int(after.agent.learner.steps), differs("params"), differs("target")))
        state = after
    assert [m for m in moved if m[0] == 0] == [(0, False, False)] * 3  # before learning starts
    assert moved[3:] == [(n, True, n % delay == 0) for n in range(1, 7)]


@pytest.mark.parametrize("space", [Discrete(2), Box((2,))])
def test_other_actions_are_refused(space):
    with pytest.raises(ValueError, match="agent 'td3' needs actions in a bounded Box; Odd has"):
        td3.make(EnvSpec("Odd", Box((3,)), space), td3.Config())


def test_the_actors_step_size_is_its_own():
    """Adam's first step is as long as the step size: the actor's largest move is 0.003, the critics' 0.01."""
    config = td3.Config(
        num_envs=1, hidden_sizes=(4,), replay_capacity=8, batch_size=2, learning_starts=0, policy_delay=1, gradient_steps=1
    )
    agent, hp = td3.make(SPEC, config), td3.HParams(learning_rate=0.01, actor_learning_rate=0.003)
    state = agent.init(jax.random.key(0), hp)
    flags, obs, action = jnp.zeros((1, 1), bool), jnp.ones((1, 1, 3)), jnp.array([[[1.0, 0.5]]])
    rollout = Rollout(Transition(obs, flags, action, jnp.ones((1, 1)), flags, flags, obs, (), ~flags), ())
    after, _ = agent.learn(hp, state, rollout, Clock(jnp.int32(1), 0.0), jax.random.key(1))
    for name, step in (("actor", 0.003), ("critic", 0.01)):
        pairs = (getattr(x.learner.params, name) for x in (state, after))
        moved = jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), *pairs))
        np.testing.assert_allclose(max(moved), step, rtol=1e-3)


@pytest.mark.parametrize("agent", ["sac", "td3"])
def test_sampled_actions_of_any_number_of_environments_are_each_drawn(agent):
    """Trained in one environment, asked for five actions: five draws, also while actions are uniform."""
    factory = {"sac": sac, "td3": td3}[agent]
    config = factory.Config(num_envs=1, hidden_sizes=(4,), replay_capacity=8, learning_starts=10)
    made, hp = factory.make(SPEC, config), factory.HParams()
    state = made.init(jax.random.key(0), hp)
    for env_steps in (5, 50):
        clock = Clock(jnp.int32(env_steps), 0.0)
        action = np.asarray(made.act(hp, state, (), jnp.ones((5, 3)), None, clock, jax.random.key(1))[0])
        assert action.shape == (5, 2) and len(np.unique(action[:, 0])) == 5
