"""replay/frames.py: a replay that stores each frame once gives what one of whole observations gives."""

import dataclasses
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import EnvSpec, Stack, Transition
from jaxrl.envs import transforms
from jaxrl.experiment import registry
from jaxrl.replay import ring, sequence
from jaxrl.replay.frames import Frames
from tests.small import assert_trees_equal, small_trainer

N, T = 3, 4  # environments, steps of a rollout
SMALL, LARGE = (5, 2), (600, 2)  # frames of two channels


def history(stack, steps, ends, seed, frame=SMALL):
    """Rollouts of random frames and episodes, stacked by hand: an episode ends at a step with probability `ends`."""
    rng = np.random.default_rng(seed)
    new_frame = lambda: rng.integers(1, 256, (N, *frame)).astype(np.uint8)  # noqa: E731

    def begin(frame):
        return [np.zeros_like(frame) if stack.blank else frame] * (stack.size - 1) + [frame]

    seen, first, rows = [begin(f) for f in new_frame()], np.ones(N, bool), []
    for _ in range(steps):
        obs = np.stack([np.concatenate(frames, -1) for frames in seen])
        seen = [[*frames[1:], f] for frames, f in zip(seen, new_frame(), strict=True)]
        next_obs = np.stack([np.concatenate(frames, -1) for frames in seen])
        ended, cut = rng.random(N) < ends, rng.random(N) < 0.5
        action, reward = rng.integers(0, 4, N).astype(np.int32), rng.normal(size=N).astype(np.float32)
        rows.append(Transition(obs, first, action, reward, ended & ~cut, ended & cut, next_obs, (), np.ones(N, bool)))
        seen = [begin(f) if e else frames for frames, f, e in zip(seen, new_frame(), ended, strict=True)]
        first = ended
    whole = jax.tree.map(lambda *x: np.stack(x), *rows)
    return [jax.tree.map(lambda x, i=i: jnp.asarray(x[i : i + T]), whole) for i in range(0, steps, T)]


@pytest.mark.parametrize("stack", [Stack(4, blank=True), Stack(3), Stack(1)], ids=str)
@pytest.mark.parametrize("n_step", [1, 3])
def test_batches_equal_those_of_whole_observations(stack, n_step):
    """Every slot, before the ring is full and after it wrapped, whatever ended an episode."""
    rollouts = history(stack, 60, 0.15, seed=n_step)
    like = EnvSpec("", Box((5, 2 * stack.size), 0, 255, np.uint8), Discrete(4))
    example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), rollouts[0])._replace(first=())
    push, read = jax.jit(ring.push_transitions), jax.jit(partial(ring.read_n_step, gamma=0.9, n_step=n_step))
    replays = [
        ring.init_transitions(spec, example, 72, N, T, n_step) for spec in (like, dataclasses.replace(like, stack=stack))
    ]
    for count, rollout in enumerate(rollouts, 1):
        replays = [push(replay, rollout) for replay in replays]
        rows, oldest = int(replays[0].filled), int(replays[0].position) if count * T > 24 else 0
        slots = (oldest * N + jnp.arange((rows - n_step + 1) * N, dtype=jnp.int32)) % (24 * N)
        whole, frames = (read(replay, slots) for replay in replays)
        assert_trees_equal(frames, whole)  # every one is valid


def test_what_has_lost_its_frames_is_not_valid():
    """Of large frames episodes of one step take two a row: the older half of the rows is left out, and nothing else."""
    rollouts = history(Stack(2), 128, 1.0, seed=0, frame=LARGE)
    spec = EnvSpec("", Box((600, 4), 0, 255, np.uint8), Discrete(4), stack=Stack(2))
    example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), rollouts[0])._replace(first=())
    replay = ring.init_transitions(spec, example, 64 * N, N, T)
    for rollout in rollouts:
        replay = ring.push_transitions(replay, rollout)
    valid = ring.read_n_step(replay, jnp.arange(64 * N, dtype=jnp.int32), 0.9, 1).valid.reshape(64, N)
    frames = replay.frames.ring.shape[0]
    assert frames == 64 + 1 + 2 + 1
    np.testing.assert_array_equal(valid.sum(0), [frames // 2] * N)
    assert valid[-(frames // 2) :].all()  # position is 0: the last rows are the newest


def test_a_sequence_that_has_lost_frames_is_not_valid_at_all():
    """Episodes of two steps need three frames for two; what is valid is as it was."""
    rollouts = history(Stack(2), 40 * T, 0.5, seed=1, frame=LARGE)
    spec = EnvSpec("", Box((600, 4), 0, 255, np.uint8), Discrete(4), stack=Stack(2))
    example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), rollouts[0])
    whole = dataclasses.replace(spec, stack=None)
    replays = [sequence.init(each, example, jnp.int32(0), 20 * T * N, N, T, T + 2) for each in (spec, whole)]
    push = jax.jit(sequence.push)
    for rollout in rollouts:
        replays = [push(replay, rollout, jnp.zeros(N, jnp.int32)) for replay in replays]
    found, expected = (sequence.read(replay, jnp.arange(19 * N), T + 2).steps for replay in replays)
    valid = np.asarray(found.valid)
    assert (valid.all(0) | ~valid.any(0)).all() and 0 < valid.mean() < 1
    assert_trees_equal(*(jax.tree.map(lambda x: np.asarray(x)[valid], x._replace(valid=())) for x in (found, expected)))


def test_bytes_of_a_transition_of_atari():
    """A frame of 84 × 84 and a 64th; action, reward and reference 13 bytes, three flags."""
    spec = EnvSpec("", Box((84, 84, 4), 0, 255, np.uint8), Discrete(4), stack=Stack(4))
    example = Transition(jnp.zeros((84, 84, 4), jnp.uint8), (), jnp.int32(0), jnp.float32(0), *[jnp.bool_(False)] * 2,
                         jnp.zeros((84, 84, 4), jnp.uint8), (), jnp.bool_(False))  # fmt: skip
    replay = jax.eval_shape(lambda: ring.init_transitions(spec, example, 1_000_000, 8, 4))
    total = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(replay))
    assert total / 1_000_000 <= 7_200 and total <= 8e9


@pytest.mark.parametrize("members", [1, 3])
def test_the_compiled_program_never_copies_the_frames(members):
    rollouts = history(Stack(4), T, 0.5, seed=0)
    spec = EnvSpec("", Box((5, 8), 0, 255, np.uint8), Discrete(4), stack=Stack(4))
    example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), rollouts[0])._replace(first=())
    replay = ring.init_transitions(spec, example, 1000 * N, N, T)

    def program(replay, slots):
        def one(replay, slots):
            replay = ring.push_transitions(replay, rollouts[0])
            return replay, ring.read_n_step(replay, slots, 0.9, 1)

        return jax.lax.scan(one, replay, slots)

    args = (replay, jnp.zeros((5, 32), jnp.int32))
    if members > 1:
        program, args = jax.vmap(program), jax.tree.map(lambda x: jnp.stack([x] * members), args)
    text = jax.jit(program, donate_argnums=0).lower(*args).compile().as_text()
    size = members * math.prod(replay.frames.ring.shape)
    found = re.findall(r"= u8\[([\d,]+)\]\S* ([\w-]+)\(", text)
    large = {op for dims, op in found if math.prod(map(int, dims.split(","))) == size}
    assert large and not large & {"copy", "copy-start", "select", "transpose", "concatenate", "broadcast"}, large


@pytest.mark.parametrize(("agent", "env", "config"), [
    ("dqn", "CartPole-v1", {"n_step": 2, "prioritized": True}),
    ("sac", "Pendulum-v1", {}),
    ("r2d2", "CartPole-v1", {"burn_in": 3}),
])  # fmt: skip
def test_training_has_the_same_bits(agent, env, config):
    """The ring is never full here, so no transition is left out."""
    stacked = transforms.stack_frames(registry.find_env(env), 3)
    whole = stacked._replace(spec=dataclasses.replace(stacked.spec, stack=None))
    trainers = [
        small_trainer(agent, e, total_steps=400, config=config | {"replay_capacity": 4000}) for e in (stacked, whole)
    ]
    (state, metrics), (expected, expected_metrics) = (jax.jit(t.train)(jax.random.key(0)) for t in trainers)
    assert_trees_equal((state.agent.learner, metrics), (expected.agent.learner, expected_metrics))
    (replay,) = [x for x in jax.tree.leaves(state.agent.experience, is_leaf=lambda x: isinstance(x, ring.Replay))
                 if isinstance(x, ring.Replay) and isinstance(x.frames, Frames)]  # fmt: skip
    assert replay.data.next_obs == () and replay.frames.ring.shape[-1] == 4 - (agent == "sac")


def test_transforms_that_change_observations_store_them_whole():
    env = transforms.stack_frames(registry.find_env("CartPole-v1"), 2)
    assert env.spec.stack == Stack(2) and transforms.scale_rewards(env, 0.1).spec.stack == Stack(2)
    assert transforms.flatten(env).spec.stack is None
    assert transforms.stack_frames(env, 3).spec.stack == Stack(3)
    booleans = jaxrl.make_trainer("dqn", transforms.stack_frames(registry.find_env("Breakout-MinAtar"), 2), preset="none")
    assert jax.eval_shape(booleans.init, jax.random.key(0)).agent.experience.replay.frames == ()  # booleans are packed
