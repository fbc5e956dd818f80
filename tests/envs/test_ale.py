"""Atari by ale-py: the loop's rows are the emulators' own."""

import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ale_py = pytest.importorskip("ale_py")

from ale_py.vector_env import AtariVectorEnv  # noqa: E402

import jaxrl  # noqa: E402
from jaxrl.core import trees  # noqa: E402
from jaxrl.core.errors import InputError  # noqa: E402
from jaxrl.core.types import Scores, Transition  # noqa: E402
from jaxrl.envs.host import ale  # noqa: E402
from jaxrl.envs.host.vec_env import vec_env  # noqa: E402
from jaxrl.replay import ring  # noqa: E402
from jaxrl.runs.driver import Training  # noqa: E402
from tests.command_line import assert_killed_ends_as_whole  # noqa: E402

WIDTH, STEPS = 2, 25
SCORES = Path(ale.__file__).parent / "atari_scores.toml"


def test_rows_are_those_of_the_emulators(monkeypatch):
    """The same seeds and actions, frame by frame, over the end of an episode."""
    seeds, reset = [], ale.AtariPool.reset

    def watched(pool, given):
        seeds.append(given)
        return reset(pool, given)

    monkeypatch.setattr(ale.AtariPool, "reset", watched)
    simulators = ale.simulators("Pong", max_frames=60)
    vec = vec_env(simulators, WIDTH)
    assert vec.spec.observation_space.shape == (84, 84, 4) and vec.spec.action_space.n == 6
    key = jax.random.key(0)
    actions = np.asarray(jax.random.randint(key, (STEPS, WIDTH), 0, 6))

    def one(state, action):
        state, obs, _, out = vec.step(jax.random.split(key, WIDTH), state, (), action, ())
        return state, (obs, out)

    state, first = vec.init(key, ())
    _, (obs, out) = jax.device_get(jax.jit(lambda s, a: jax.lax.scan(one, s, a))(state, actions))
    raw = AtariVectorEnv("pong", WIDTH, autoreset_mode="SameStep", repeat_action_probability=0.25, noop_max=0,
                         use_fire_reset=False, reward_clipping=False, max_num_frames_per_episode=60)  # fmt: skip
    frames, _ = raw.reset(seed=seeds[0])
    np.testing.assert_array_equal(first, np.moveaxis(frames, 1, -1))
    ended = 0
    for t in range(STEPS):
        frames, reward, terminated, truncated, info = raw.step(actions[t].astype(np.int32))
        np.testing.assert_array_equal(obs[t], np.moveaxis(frames, 1, -1))
        assert (out.reward[t] == reward).all() and (out.truncated[t] == truncated).all() and not terminated.any()
        last = info["final_obs"] if "final_obs" in info else frames
        np.testing.assert_array_equal(out.obs[t], np.moveaxis(last, 1, -1))
        ended += int(truncated.sum())
    assert ended >= WIDTH and out.valid.all()
    raw.close()
    simulators.close()


@pytest.mark.parametrize(
    "settings", [{"max_frames": 60}, {"life_loss": True, "fire_on_reset": True, "noop_max": 20}], ids=str
)
def test_a_replay_that_stores_frames_once_gives_the_emulators_observations(settings):
    """Also of first and last ones, after a truncation or a lost life, which follow from frames as `EnvSpec.stack` says."""
    simulators, rng = ale.simulators("Breakout", **settings), np.random.default_rng(0)
    pool, rows, first, steps = simulators.new(WIDTH), [], np.ones(WIDTH, bool), 120
    obs = pool.reset(np.arange(WIDTH))
    for _ in range(steps):
        action = rng.integers(0, 4, WIDTH).astype(np.int32)
        pool.send(action)
        got = pool.receive()
        rows.append(Transition(obs, first, action, got.reward, got.terminated, got.truncated, got.next_obs, (), got.valid))
        obs, first = got.obs, got.terminated | got.truncated
    pool.close()
    whole = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *rows)
    assert int(whole.first.sum()) > 2 * WIDTH
    example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), whole)._replace(first=())
    replay = ring.push_transitions(ring.init_transitions(simulators.spec, example, 8 * steps * WIDTH, WIDTH, steps), whole)
    assert replay.data.next_obs == () and replay.frames.ring.shape[2:] == (84, 84, 1)
    batch = ring.read_n_step(replay, jnp.arange(steps * WIDTH, dtype=jnp.int32), 0.99, 1)
    assert batch.valid.all()
    np.testing.assert_array_equal(batch.obs, whole.obs.reshape(-1, 84, 84, 4))
    np.testing.assert_array_equal(batch.next_obs, whole.next_obs.reshape(-1, 84, 84, 4))


def test_emulators_follow_from_their_seeds_over_a_restart_and_under_vmap():
    """Sticky actions included: stepped again from a restart, as by another process; and two members folded into one call."""
    every, key = 6, jax.random.key(7)
    actions = np.asarray(jax.random.randint(key, (2 * every, WIDTH), 0, 4))

    def played(vec, state, actions):
        def one(state, action):
            state, obs, _, out = vec.step(jax.random.split(key, WIDTH), state, (), action, ())
            return state, (obs, out)

        return jax.lax.scan(one, state, actions)

    made = [ale.simulators("Breakout", fire_on_reset=True, noop_max=5, restart_every=every) for _ in range(2)]
    vec, elsewhere = (vec_env(each, WIDTH, WIDTH) for each in made)
    start = vec.init(key, ())[0]
    middle, first = jax.device_get(jax.jit(lambda s: played(vec, s, actions[:every]))(start))
    _, rest = jax.device_get(jax.jit(lambda s: played(vec, s, actions[every:]))(middle))
    _, again = jax.device_get(jax.jit(lambda s: played(elsewhere, s, actions[every:]))(vec.host.stored(middle)))
    jax.tree.map(np.testing.assert_array_equal, rest, again)
    assert first[1].cut[-1].all() and (rest[0] != first[0]).any()
    keys = jnp.stack([jax.random.key(8), key])
    _, folded = jax.device_get(jax.jit(jax.vmap(lambda k: played(vec, vec.init(k, ())[0], actions)))(keys))
    jax.tree.map(lambda x, *parts: np.testing.assert_array_equal(x[1], np.concatenate(parts)), folded, first, rest)
    for each in made:
        each.close()


def test_a_run_killed_and_resumed_is_the_same_run(tmp_path, monkeypatch):
    """By kill -9 after a restart of the emulators, whose sticky actions are drawn anew from their seeds."""
    evaluate = Training.evaluate
    monkeypatch.setattr(Training, "evaluate", lambda self: evaluate(self, 2))  # to start 64 emulators takes 9 seconds
    words = ["a2c", "--env", "ale:Pong", "--env-kwarg", "restart_every=100", "--env-kwarg", "max_frames=200"]
    words += ["--preset", "none", "--num-envs", WIDTH, "--updates-per-iteration", 5, "--rollout-length", 10]
    words += ["--hidden-sizes", 8, "--torso", "mlp", "--seeds", 2, "--total-steps", 800]
    assert_killed_ends_as_whole(*words, folder=tmp_path)


def test_evaluations_play_whole_games_for_their_own_rewards():
    """Where in training a lost life ends an episode, and rewards are clipped to their sign."""
    settings = {"life_loss": True, "clip_rewards": True, "sticky": 0.0}
    trained = vec_env(ale.simulators("SpaceInvaders", **settings), 1, 1)
    judged, plain = trained.host.sized(1, 0), vec_env(ale.simulators("SpaceInvaders", sticky=0.0), 1)

    def played(vec):
        def one(state, action):
            state, _, _, out = vec.step(jax.random.split(key, 1), state, (), action, ())
            return state, (out.reward, out.terminated)

        return jax.device_get(jax.jit(lambda s: jax.lax.scan(one, s, actions))(vec.init(key, ())[0])[1])

    key = jax.random.key(3)
    actions = jax.random.randint(key, (800, 1), 0, 6)
    rows, whole, games = played(trained), played(judged), played(plain)
    np.testing.assert_array_equal(whole, games)
    assert set(np.unique(rows[0])) == {0, 1} and whole[0].max() > 1
    assert rows[1].sum() > whole[1].sum()


def test_human_normalised_scores():
    """At a random player's return 0, at a person's 1; the same game by its name here and in EnvPool."""
    pong = ale.simulators("Pong").spec.scores
    assert pong.normalized(-20.7) == 0 and pong.normalized(14.6) == 1 and pong.normalized(21) == pytest.approx(41.7 / 35.3)
    assert ale.scores("ms_pacman") == Scores(307.3, 6951.6) and ale.scores("adventure") is None
    unknown = [game for game in tomllib.loads(SCORES.read_text()) if game not in ale_py.roms.get_all_rom_ids()]
    assert unknown == []


def test_presets_for_pong_from_pixels():
    """Those of DQN and PPO fit, with the network of Mnih et al. 2015 and a replay that stores frames once."""
    for agent in ("dqn", "ppo"):
        trainer = jaxrl.make_trainer(agent, "ale:Pong")
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        kernels = [x.shape for x in jax.tree.leaves(state.agent) if x.shape[-1:] == (32,) and len(x.shape) == 4]
        assert (8, 8, 4, 32) in kernels
        assert agent == "ppo" or trees.nbytes(state) < 200_000 * 7_400


def test_an_action_that_there_is_not_is_named():
    pool = ale.simulators("Breakout").new(1)
    pool.reset(np.zeros(1, np.int64))
    with pytest.raises(InputError, match="action 4 is none of 4"):
        pool.send(np.int32([4]))
    pool.close()


def test_an_unknown_game_is_one_line():
    with pytest.raises(InputError, match="unknown Atari game 'pung'; nearest: pong"):
        ale.simulators("pung")
