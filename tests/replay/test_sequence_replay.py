"""replay/sequence.py against a list of rollouts."""

import functools
import math
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import EnvSpec, Transition
from jaxrl.replay import prioritized, sequence, uniform


def step_of(obs):
    """A transition, or several, of an observation alone."""
    return Transition(obs, *[()] * 8)


SPEC = EnvSpec("", Discrete(2), Discrete(2))  # whose observations stack no frames
STEP = step_of({"id": jnp.int32(0), "image": jnp.zeros((3, 3), bool)})
MEMORY = (jnp.zeros(2), jnp.int32(0))
push = jax.jit(sequence.push)
read = jax.jit(sequence.read, static_argnums=2)
# (capacity, num_envs, rollout_length, length): sequences within a rollout, of one, of parts of several; room for just one.
LAYOUTS = [(12, 2, 3, 2), (12, 2, 3, 3), (40, 2, 4, 6), (40, 1, 4, 9), (7, 1, 1, 3), (12, 2, 3, 5), (9, 3, 1, 1)]


def image(ids):
    """An image that is a function of the number."""
    return (np.asarray(ids)[..., None, None] >> np.arange(9).reshape(3, 3)) % 2 == 1


def rollout(index, length, num_envs):
    """Rollout number `index`: steps numbered 100 · time + environment, and a memory of (rollout, environment)."""
    time = index * length + np.arange(length)
    ids = 100 * time[:, None] + np.arange(num_envs)
    memory = np.stack([np.full(num_envs, index), np.arange(num_envs)], -1).astype(np.float32)
    return step_of({"id": ids, "image": image(ids).astype(np.float32)}), (memory, 7 * index + np.arange(num_envs))


@functools.cache
def jitted_sampler(rollout_length, length, prioritize):
    span = sequence.span(length, rollout_length)
    sampler = prioritized.sampler(64, span, 1) if prioritize else uniform.sampler(64, span)
    return sampler._replace(insert=jax.jit(sampler.insert), sample=jax.jit(sampler.sample))


def filled(layout, pushes, prioritize=False):
    capacity, num_envs, rollout_length, length = layout
    replay = sequence.init(SPEC, STEP, MEMORY, capacity, num_envs, rollout_length, length)
    sampler = jitted_sampler(rollout_length, length, prioritize)
    priorities = sampler.init(replay.starts)
    for i in range(pushes):
        replay = push(replay, *rollout(i, rollout_length, num_envs))
        priorities = sampler.insert(priorities, replay.starts)
    return replay, sampler, priorities


def startable(layout, pushes):
    """The model: rollouts that are still there, and after which enough steps are."""
    capacity, num_envs, rollout_length, length = layout
    kept = range(max(0, pushes - capacity // (num_envs * rollout_length)), pushes)
    return [i for i in kept if i * rollout_length + length <= pushes * rollout_length]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prioritize", [False, True])
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True, database=None)
@hypothesis.given(pushes=st.integers(1, 13), seed=st.integers(0, 2**31 - 1))
def test_sequences_are_consecutive_stored_steps_with_the_memory_before_them(layout, prioritize, pushes, seed):
    _, num_envs, rollout_length, length = layout
    replay, sampler, priorities = filled(layout, pushes, prioritize)
    starts = startable(layout, pushes)
    assert bool(replay.starts.filled >= sampler.n_step) == bool(starts)
    if not starts:
        return  # agents do not sample so early
    slots, relative = sampler.sample(priorities, replay.starts, jax.random.key(seed))
    memory, steps = jax.device_get(read(replay, slots, length))
    np.testing.assert_allclose(relative, 1, rtol=1e-6)  # all new sequences weigh the same
    index, env = memory[0].astype(int).T
    assert set(index) <= set(starts) and memory[0].shape == (64, 2)
    np.testing.assert_array_equal(memory[1], 7 * index + env)
    times = index * rollout_length + np.arange(length)[:, None]
    np.testing.assert_array_equal(steps.obs["id"], 100 * times + env)
    np.testing.assert_array_equal(steps.obs["image"], image(steps.obs["id"]))


@pytest.mark.parametrize("prioritize", [False, True])
@pytest.mark.parametrize("pushes", [2, 5, 8])
def test_every_whole_sequence_is_drawn_alike(prioritize, pushes):
    layout = (40, 2, 4, 6)
    replay, sampler, priorities = filled(layout, pushes, prioritize)
    draw = jax.jit(jax.vmap(lambda key: sampler.sample(priorities, replay.starts, key)[0]))
    slots = draw(jax.random.split(jax.random.key(0), 300)).reshape(-1)
    index, env = np.asarray(read(replay, slots, 1).memory[0]).astype(int).T
    counts = [np.sum((index == i) & (env == e)) for i in startable(layout, pushes) for e in range(2)]
    assert sum(counts) == len(slots)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_draws_follow_priorities():
    """5 rollouts of 2 environments, sequences over two: of the 8 whole ones, one each weighs 1 … 8, to the power ½."""
    layout = (40, 2, 4, 6)
    replay, sampler, priorities = filled(layout, 5, True)
    slots = jnp.arange(8)
    priorities = sampler.update(priorities, slots, slots + 1.0, 0.5, jnp.bool_(True))
    draw = jax.jit(jax.vmap(lambda key: sampler.sample(priorities, replay.starts, key)))
    found, relative = draw(jax.random.split(jax.random.key(0), 300))
    expected = np.sqrt(np.arange(1, 9)) / np.sqrt(np.arange(1, 9)).sum()
    counts = np.bincount(found.reshape(-1), minlength=10)
    assert counts[8:].sum() == 0 and scipy.stats.chisquare(counts[:8], expected * counts.sum()).pvalue > 1e-4
    np.testing.assert_allclose(relative, 8 * expected[found], rtol=1e-4)


def test_a_sequence_made_whole_weighs_the_highest_and_one_overwritten_nothing():
    layout = (40, 2, 4, 6)  # five rollouts, sequences over two of them
    replay, sampler, priorities = filled(layout, 5, True)
    priorities = sampler.update(priorities, jnp.array([3]), jnp.array([9.0]), 0.5, jnp.bool_(True))
    np.testing.assert_allclose(priorities.tree[0][:10], [1, 1, 1, 3, 1, 1, 1, 1, 0, 0], rtol=1e-5)
    replay = push(replay, *rollout(5, 4, 2))
    priorities = sampler.insert(priorities, replay.starts)  # the new rollout, in row 0, completes those of the last row
    np.testing.assert_allclose(priorities.tree[0][:10], [0, 0, 1, 3, 1, 1, 1, 1, 3, 3], rtol=1e-5)


@pytest.mark.parametrize(("capacity", "length"), [(15, 5), (23, 9), (7, 1)])
def test_a_buffer_too_small_for_one_sequence_is_refused(capacity, length):
    with pytest.raises(InputError, match=f"replay_capacity = {capacity} .* {-(-length // 4) * 8}"):
        sequence.init(SPEC, STEP, MEMORY, capacity, 2, 4, length)
    sequence.init(SPEC, STEP, MEMORY, -(-length // 4) * 8, 2, 4, length)


def test_storage():
    """A step takes 4 bytes and 9 bits; a memory, 12 bytes and a flag, lies once for 4 steps."""
    replay = sequence.init(SPEC, STEP, MEMORY, 40, 2, 4, 6)
    shapes = [(x.shape, x.dtype.name) for x in jax.tree.leaves(replay.steps.data)]
    assert shapes == [((20, 2), "int32"), ((20, 2, 2), "uint8")]
    shapes = [(x.shape, x.dtype.name) for x in jax.tree.leaves(replay.starts.data)]
    assert shapes == [((5, 2, 2), "float32"), ((5, 2), "int32"), ((5, 2), "bool")]


SHAPE, STARTS = (1000, 4, 10), (500, 4, 6)  # of the buffers in the compiled program below


@pytest.mark.parametrize("members", [1, 3])
def test_the_compiled_program_never_copies_the_buffers(members):
    def program(replay, steps, memory, key):
        span = sequence.span(5, 2)

        def one(replay, key):
            replay = sequence.push(replay, steps, memory)
            slots = uniform.draw_slots(replay.starts, key, 32, span)
            return replay, jax.tree.map(jnp.mean, sequence.read(replay, slots, 5))

        return jax.lax.scan(one, replay, jax.random.split(key, 5))

    replay = sequence.init(SPEC, step_of(jnp.zeros(SHAPE[2])), jnp.zeros(STARTS[2]), 4000, 4, 2, 5)
    assert (replay.steps.data.obs.shape, replay.starts.data.memory.shape) == (SHAPE, STARTS)
    args = replay, step_of(jnp.ones((2, *SHAPE[1:]))), jnp.ones(STARTS[1:]), jax.random.key(0)
    if members > 1:
        program, args = jax.vmap(program), jax.tree.map(lambda x: jnp.stack([x] * members), args)
    text = jax.jit(program, donate_argnums=0).lower(*args).compile().as_text()
    found = re.findall(r"= f32\[([\d,]+)\]\S* ([\w-]+)\(", text)
    sizes = {members * math.prod(SHAPE), members * math.prod(STARTS)}
    large = {op for dims, op in found if math.prod(map(int, dims.split(","))) in sizes}
    assert large
    assert not large & {"copy", "copy-start", "select", "transpose", "concatenate", "broadcast"}
