"""jaxrl.policy: on the host, in another library's simulator, what `evaluate` plays."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Env, EnvSpec, EnvStep
from tests.small import small_trainer

N = 3


@pytest.fixture(scope="module")
def trained():
    trainer = small_trainer("reinforce", "CartPole-v1", total_steps=2000)
    return trainer, jax.jit(trainer.train)(jax.random.key(0))[0]


@pytest.fixture(scope="module")
def recurrent():
    trainer = small_trainer("ppo", "CartPole-v1", config={"torso": "gru", "num_minibatches": 2})
    return trainer, jax.jit(trainer.init)(jax.random.key(1))


def play(trainer, state, steps):
    """What the greedy agent sees and does in N environments: obs [T, N, ...], first [T, N], action [T, N]."""
    agent, vec = trainer.agent, jaxrl.vectorize(trainer.env, N)
    env, obs = vec.init(jax.random.key(3), state.env_params)

    @jax.jit
    def step(env, obs, first, memory, key):
        memory = jaxrl.core.trees.where(first, agent.memory(N), memory)
        action, memory = agent.greedy(state.hparams, state.agent, memory, obs, first, key)
        pool = vec.prepare(key, state.env_params)
        env, obs, _, out = vec.step(jax.random.split(key, N), env, pool, action, state.env_params)
        return env, obs, out.terminated | out.truncated, memory, action

    first, memory, seen = jnp.ones(N, bool), agent.memory(N), []
    for t in range(steps):
        before = obs, first
        env, obs, first, memory, action = step(env, obs, first, memory, jax.random.key(t))
        seen.append(jax.tree.map(np.asarray, (*before, action)))
    return [np.stack(x) for x in zip(*seen, strict=True)]


def test_a_gymnasium_environment_is_played_in_ten_lines(trained):
    policy = jaxrl.policy(trained)
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    memory, done, steps = None, False, 0
    while not done:
        action, memory = policy(obs, memory)
        obs, _, terminated, truncated, _ = env.step(action)
        done, steps = terminated or truncated, steps + 1
    assert 5 < steps <= 500


@pytest.mark.parametrize("which", ["trained", "recurrent"])
def test_it_acts_as_the_agent_does_one_by_one_and_in_a_batch(which, request):
    trainer, state = request.getfixturevalue(which)
    policy = jaxrl.policy((trainer, state))
    observed, first, actions = play(trainer, state, 150)
    assert first[1:].any()  # episodes end in between
    memory, alone = None, [None] * N
    for t in range(len(observed)):
        action, memory = policy(observed[t], memory, first[t])
        assert isinstance(action, np.ndarray) and action.tolist() == actions[t].tolist()
        for i in range(N):
            one, alone[i] = policy(observed[t, i], None if first[t, i] else alone[i])
            assert one.shape == () and one == actions[t, i]


def test_it_is_compiled_once_for_each_batch_size(trained):
    policy = jaxrl.policy(trained)
    for _ in range(3):
        policy(np.zeros(4))
        policy([0.0, 1.0, 2.0, 3.0])
        policy(np.zeros((N, 4), np.float32))
    assert policy._act._cache_size() == 2


def test_draws_follow_from_the_seed(trained):
    def drawn(seed):
        policy = jaxrl.policy(trained, greedy=False, seed=seed)
        return [policy(np.zeros((20, 4)))[0].tolist() for _ in range(2)]

    assert drawn(1) == drawn(1) != drawn(2) and drawn(1)[0] != drawn(1)[1]


@pytest.mark.parametrize("shape", [(), (5,), (2, 5), (4, 4, 4)])
def test_an_observation_of_another_shape_is_refused(trained, shape):
    with pytest.raises(ValueError, match=r"an observation of CartPole-v1 is \(4,\), or \[N\] of them, not"):
        jaxrl.policy(trained)(np.zeros(shape))


def test_observations_may_be_products():
    space = Product.of(place=Discrete(3), speed=Box((2,)))

    def step(key, state, action, params):
        return state, EnvStep(space.sample(key), jnp.float32(0), jnp.bool_(False), jnp.bool_(True))

    env = Env(EnvSpec("Both", space, Discrete(2)), {}, lambda key, params: (jnp.int32(0), space.sample(key)), step)
    agent = jaxrl.Agent(
        lambda key, hp, params=None: (),
        lambda n: (),
        None,
        lambda hp, state, memory, obs, first, key: (obs["place"] + obs["speed"].sum(-1).astype(jnp.int32), memory),
        None,
    )
    trainer = jaxrl.Trainer(agent, env, jaxrl.vectorize(env, 1), (), {}, 1, 1, 1)
    policy = jaxrl.policy((trainer, jax.eval_shape(trainer.init, jax.random.key(0))._replace(hparams=(), agent=())))
    assert policy({"place": 2, "speed": np.array([1.0, 3.0])})[0] == 6
    assert policy({"place": np.arange(2), "speed": np.ones((2, 2))})[0].tolist() == [2, 3]
    for wrong, words in (({"place": 2}, "{place}"), (np.ones(3), "ndarray"), ((1, "x"), r"\(int, str\)")):
        with pytest.raises(ValueError, match=f"an observation of Both is {{place, speed}}, not {words}$"):
            policy(wrong)
    with pytest.raises(ValueError, match="an observation of Both is of numbers, not {place, speed}"):
        policy({"place": "left", "speed": np.ones(2)})


def test_the_states_of_several_members_are_refused_in_words(trained):
    trainer, state = trained
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    with pytest.raises(ValueError, match=r"got those of 2: take one with jaxrl.member\(states, 0\)"):
        jaxrl.policy((trainer, states))
    with pytest.raises(ValueError, match=r"got those of 2: take one with jaxrl.member\(states, 0\)"):
        jaxrl.evaluate(trainer, states, jax.random.key(0))


def test_a_member_of_a_directory_or_of_a_result(tmp_path):
    kwargs = {"total_steps": 500, "preset": "none", "config": {"num_envs": 2, "hidden_sizes": ()}, "seeds": 2}
    result = jaxrl.sweep("reinforce", "CartPole-v1", grid={"learning_rate": [0.1]}, **kwargs)

    obs = np.linspace(-1, 1, 40).reshape(10, 4)
    for member in (0, 1):
        expected = jaxrl.policy(result.agent(0, member))(obs)[0]
        assert jaxrl.policy(result, member=member)(obs)[0].tolist() == expected.tolist()
    for source in (3, (1, 2, 3), None):
        with pytest.raises(ValueError, match="a policy is made of a directory, a result or"):
            jaxrl.policy(source)
    with pytest.raises(ValueError, match="no jaxrl directory"):
        jaxrl.policy(tmp_path / "nothing")
