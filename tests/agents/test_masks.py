"""Observations of several parts, and action masks: what is forbidden is never done, and what is seen is learnt from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import jaxrl
from jaxrl.agents import r2d2
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Clock, Env, EnvSpec, EnvStep
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.torsos import CNN, CNNS, MLP, Torso, torso_of
from jaxrl.ops import exploration
from jaxrl.ops.values import ILLEGAL
from tests.small import QUICK, RAINBOW, hparam_names, of_config, released, small_trainer

A = 5
SPACE = Product.of(numbers=Box((A,)), room=Discrete(3), picture=Box((6, 6, 1), 0, 255, jnp.uint8),
                   action_mask=Box((A,), 0, 1, jnp.bool_))  # fmt: skip
CASES = {
    "dqn": {}, "rainbow": RAINBOW, "quantile": {"distributional": "quantile"}, "boltzmann": {"exploration": "boltzmann"},
    "pqn": {}, "r2d2": {}, "ppo": {}, "gru": {"torso": "gru", "num_minibatches": 2}, "a2c": {"shared_torso": True},
    "reinforce": {}, "sac": {},
}  # fmt: skip
OF = {"rainbow": "dqn", "quantile": "dqn", "boltzmann": "dqn", "gru": "ppo"}


def choice(length=10):
    """A number for each action: that of the largest legal one earns 1, an illegal one costs 1000. Episodes of a length."""

    def look(key):
        u = jax.random.uniform(key, (2 * A + 2,))  # one draw for everything: many of them take long to compile
        legal = (u[:A] < 0.4) | (jnp.arange(A) == jnp.floor(A * u[A]))
        picture = jnp.broadcast_to(255 * u[:6, None], (6, 6))[..., None].astype(jnp.uint8)
        room = jnp.floor(3 * u[A + 1]).astype(jnp.int32)
        return {"numbers": 4 * u[A + 2 :] - 2, "room": room, "picture": picture, "action_mask": legal}

    def reset(key, params):
        obs = look(key)
        return (jnp.int32(0), obs), obs

    def step(key, state, action, params):
        count, obs = state
        best = jnp.argmax(jnp.where(obs["action_mask"], obs["numbers"], -jnp.inf))
        illegal = ~obs["action_mask"][action]
        after = look(key)
        reward = (action == best).astype(jnp.float32) - 1000 * illegal
        out = EnvStep(after, reward, count + 1 >= length, jnp.bool_(False), {"illegal": illegal.astype(jnp.float32)})
        return (count + 1, after), out

    return Env(EnvSpec("Choice", SPACE, Discrete(A)), (), reset, step)


def vector(env):
    """Without the picture, which only costs time."""
    names = [name for name in SPACE.names if name != "picture"]
    space = Product.of(**{name: SPACE.spaces[SPACE.names.index(name)] for name in names})
    less = lambda obs: {name: obs[name] for name in names}  # noqa: E731

    def reset(key, params):
        state, obs = env.reset(key, params)
        return state, less(obs)

    def step(*args):
        state, out = env.step(*args)
        return state, out._replace(obs=less(out.obs))

    return env._replace(spec=EnvSpec("Vector", space, Discrete(A)), reset=reset, step=step)


def trainer_of(case, **kwargs):
    """With the picture, whose network takes long to compile, for two of them."""
    agent, env = OF.get(case, case), choice()
    return small_trainer(
        agent, env if case in ("dqn", "a2c") else vector(env), config=of_config(agent, CASES[case]), **kwargs
    )


RARE = ("quantile", "boltzmann", "gru")


@pytest.mark.parametrize("case", [*(case for case in CASES if case not in RARE), *released(*RARE)])
def test_illegal_actions_are_never_taken(case):
    """In training, from its first step on, and in 20,000 decisions of the behaviour and the greedy policy after it."""
    trainer = trainer_of(case, total_steps=1500)
    agent, n, look = trainer.agent, 2000, trainer.env.reset

    def decisions(state, key):
        def some(key):
            obs = jax.vmap(lambda k: look(k, ())[1])(jax.random.split(key, n))
            first, memory = jnp.ones(n, bool), agent.memory(n)
            clock = Clock(state.iteration * trainer.steps_per_iteration, jnp.float32(0))
            action = agent.act(state.hparams, state.agent, memory, obs, first, clock, key)[0]
            greedy = agent.greedy(state.hparams, state.agent, memory, obs, first, key)[0]
            legal = [jnp.take_along_axis(obs["action_mask"], a[:, None], 1).all() for a in (action, greedy)]
            return jnp.stack(legal)

        return jax.lax.map(some, jax.random.split(key, 10))

    def run(key):
        state, rows = trainer.train(key)
        return rows, decisions(state, key)

    rows, legal = jax.jit(run, compiler_options=QUICK)(jax.random.key(0))
    assert (rows["illegal"] == 0).all() and legal.all()
    assert not rows["diverged"].any()


@pytest.mark.parametrize(("agent", "steps"), [("ppo", 30_000), ("dqn", 15_000), *released(("sac", 6_000))])
def test_what_is_seen_beside_the_mask_is_learnt(agent, steps):
    """At random among legal ones an agent gets about 5 of 10; without the numbers it could not get more than that."""
    config = {"num_envs": 8, "hidden_sizes": (64,), "learning_starts": 500, "replay_capacity": 10_000, "rollout_length": 16}
    config |= {"sac": {"rollout_length": 1}, "dqn": {"rollout_length": 1}}.get(agent, {})
    hparams = {"learning_rate": 3e-3, "gamma": 0.0}
    trainer = jaxrl.make_trainer(
        agent, vector(choice()), total_steps=steps, config=of_config(agent, config), hparams=hparams
    )
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    assert jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=64).returns.mean() > 7.5


def twins():
    """A and B lead to X, where action 0 earns 1 and action 1 earns 10; who comes from A may not take action 1.

    Networks see the same X. So with γ = ½ Q(A, ·) = ½ and Q(B, ·) = 5; a maximum over all actions makes 5 of both.
    """
    space = Product.of(where=Discrete(3), action_mask=Box((2,), 0, 1, jnp.bool_))

    def look(where, came_from):
        return {"where": where, "action_mask": jnp.array([True, False]) | (where < 2) | (came_from == 1)}

    def reset(key, params):
        where = jax.random.randint(key, (), 0, 2)
        return (where, where), look(where, where)

    def step(key, state, action, params):
        where, came_from = state
        at_x = where == 2
        out = EnvStep(look(jnp.int32(2), came_from), jnp.where(at_x, 1.0 + 9.0 * action, 0.0), at_x, jnp.bool_(False))
        return (jnp.int32(2), came_from), out

    return Env(EnvSpec("Twins", space, Discrete(2)), (), reset, step)


@pytest.mark.parametrize("case", ["dqn", "c51", "pqn", "sac", "r2d2", *released("double", "quantile")])
def test_targets_take_the_maximum_over_what_is_legal(case):
    agent = {"double": "dqn", "c51": "dqn"}.get(case, OF.get(case, case))
    config = {"num_envs": 8, "hidden_sizes": (32, 32), "learning_starts": 200, "replay_capacity": 4000, "batch_size": 64,
              "auto_temperature": False, "num_minibatches": 4, "torso": "mlp"}  # fmt: skip
    config |= {
        "double": {"double": True},
        "c51": {"distributional": "c51", "num_atoms": 21},
        "r2d2": {"rescale_values": False, "n_step": 1},
    }.get(case, CASES.get(case, {}))
    config |= {"rollout_length": 16} if agent == "pqn" else {"rollout_length": 4, "burn_in": 0} if agent == "r2d2" else {}
    hparams = {"gamma": 0.5, "learning_rate": 3e-3, "epsilon_start": 1.0, "epsilon_end": 1.0, "temperature": 1e-3,
               "return_lambda": 0.0, "v_min": 0.0, "v_max": 10.0, "target_entropy": 0.0}  # fmt: skip
    hparams = {name: value for name, value in hparams.items() if name in hparam_names(agent)}
    trainer = jaxrl.make_trainer(
        agent, twins(), total_steps=10_000, config=of_config(agent, config), hparams=hparams, preset="none"
    )
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    obs = {"where": jnp.arange(2), "action_mask": jnp.ones((2, 2), bool)}
    if agent == "r2d2":
        network = r2d2.q_network(trainer.env.spec, r2d2.Config(hidden_sizes=(32, 32), torso="mlp"))
        q = network.apply(state.agent.learner.params, (), obs)[0][..., 0]
    else:
        q = trainer.agent.values(state.hparams, state.agent, obs)
    best = [q.max(-1)] if agent == "sac" else [q[:, 0], q[:, 1]]  # SAC, so cold, tries only one of two equal actions
    for value in best:
        np.testing.assert_allclose(value, [0.5, 5.0], atol=0.4)


def test_log_probabilities_and_entropy_are_of_legal_actions():
    """The network's logits without a forbidden action, by NumPy."""
    torso = torso_of("mlp", SPACE, (8,))
    network = ActorCritic(Discrete(A), torso)
    obs = jax.vmap(lambda key: choice().reset(key, ())[1])(jax.random.split(jax.random.key(2), 6))
    params = network.init(jax.random.key(0), (), obs)
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    free = obs | {"action_mask": jnp.ones((6, A), bool)}
    logits = np.asarray(network.apply(params, (), free)[0].policy.logits, float)
    policy = network.apply(params, (), obs)[0].policy
    for row, legal in enumerate(np.asarray(obs["action_mask"])):
        probs = special.softmax(logits[row][legal])
        actions = np.flatnonzero(legal)
        one = jax.tree.map(lambda x, row=row: x[row], policy)
        np.testing.assert_allclose([one.log_prob(a) for a in jnp.asarray(actions)], np.log(probs), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.entropy(), stats.entropy(probs), rtol=1e-4, atol=1e-6)
        assert one.mode() == actions[probs.argmax()]


def test_parts_are_joined_before_the_dense_layers():
    """Numbers as they are, one-hot vectors, what a CNN's convolutions make of the picture; the mask is not among them."""
    torso = Torso(SPACE, "auto", (7, 6))
    obs = jax.vmap(lambda key: choice().reset(key, ())[1])(jax.random.split(jax.random.key(0), 4))
    params = torso.init(jax.random.key(1), obs)
    inner = params["params"]
    picture = CNN(CNNS["minatar"][1], ()).apply({"params": inner["Torso_2"]["MinAtarCNN_0"]}, obs["picture"] / 255)
    joined = jnp.concatenate([obs["numbers"], jax.nn.one_hot(obs["room"], 3), picture], -1)
    features = torso.apply(params, obs)
    np.testing.assert_allclose(features, MLP((7, 6)).apply({"params": inner["MLP_0"]}, joined), rtol=1e-4, atol=1e-5)
    other = torso.apply(params, obs | {"action_mask": ~obs["action_mask"]})
    np.testing.assert_array_equal(features, other)


def test_values_of_parts_together_can_be_learnt():
    """Whether two numbers are equal is no sum of what each of them says alone, whatever the size of the network."""
    pair = Product((Discrete(2), Discrete(2)))
    network = QNetwork(pair, "auto", (8,), 2)
    sides = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    obs = (sides[:, 0], sides[:, 1])
    q = network.apply(network.init(jax.random.key(0), (), obs), (), obs)[0][:, 0, 0]
    assert abs(q[0] + q[3] - q[1] - q[2]) > 1e-4  # 0 of any sum


def test_tuples_and_modules_of_ones_own():
    class Own(jaxrl.networks.torsos.nn.Module):
        def __call__(self, obs):
            return jnp.concatenate([obs["numbers"], obs["picture"].reshape(len(obs["room"]), -1)], -1)

    made = torso_of(Own(), SPACE, ())
    obs = choice().reset(jax.random.key(0), ())[1]
    features = made.apply({}, (), jax.tree.map(lambda x: x[None], obs))[0]
    np.testing.assert_allclose(features[0, A:], obs["picture"].reshape(-1) / 255, rtol=1e-6)
    pair = Product((Box((2,)), Discrete(3)))
    params = Torso(pair, "mlp", (4,)).init(jax.random.key(0), (jnp.ones((1, 2)), jnp.zeros(1, jnp.int32)))
    assert params["params"]["MLP_0"]["Dense_0"]["kernel"].shape == (5, 4)


def test_exploration_is_uniform_over_what_is_legal():
    q = jnp.array([0.3, ILLEGAL, 0.1, 0.9, ILLEGAL])
    keys = jax.random.split(jax.random.key(0), 9000)
    drawn = jax.vmap(lambda key: exploration.epsilon_greedy(key, q, 1.0, masked=True))(keys)
    counts = np.bincount(drawn, minlength=A)
    assert counts[1] == counts[4] == 0 and stats.chisquare(counts[[0, 2, 3]]).pvalue > 1e-3
    free = jnp.array([0.3, 0.2, 0.1, 0.9, 0.5])
    for epsilon in (0.0, 0.4, 1.0):
        pair = [jax.vmap(lambda k, m=m, e=epsilon: exploration.epsilon_greedy(k, free, e, masked=m))(keys) for m in (0, 1)]
        np.testing.assert_array_equal(*pair)


@pytest.mark.parametrize(
    ("agent", "mask", "action_space"),
    [("ppo", Box((A,)), Box((2,), -1.0, 1.0)), ("ppo", Box((3,)), Discrete(A)), ("dqn", Box((3,)), Discrete(A)),
     ("sac", Box((3,)), Discrete(A)), ("td3", Box((2,)), Box((2,), -1.0, 1.0))],
)  # fmt: skip
def test_a_mask_that_is_not_of_the_actions_is_refused(agent, mask, action_space):
    env = choice()
    space = Product.of(numbers=Box((A,)), action_mask=mask)
    spec = EnvSpec("Odd", space, action_space)
    with pytest.raises(InputError, match=r"action_mask of shape .* is none of .*: it needs one entry for each action"):
        small_trainer(agent, env._replace(spec=spec))


def test_an_agent_that_knows_no_masks_says_so():
    with pytest.raises(
        InputError, match="'neural_bandit' knows no action masks, and Choice has one; use agent 'dqn' or 'ppo'"
    ):
        small_trainer("neural_bandit", choice())


def test_check_tries_legal_actions_only():
    metrics = next(line.text for line in jaxrl.check_env(choice()).lines if line.text.startswith("metrics"))
    assert metrics == "metrics: illegal 0"
