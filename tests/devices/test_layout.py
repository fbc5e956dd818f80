"""layout.py: padding by hand; a member's numbers do not depend on how members lie over devices."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.batching import never_alone
from jaxrl.devices.layout import Layout


@pytest.mark.parametrize(
    ("members", "devices", "padded", "order"),
    [
        (5, 1, 5, [0, 1, 2, 3, 4]),
        (5, 2, 6, [0, 1, 2, 3, 4, 4]),
        (5, 4, 8, [0, 1, 2, 3, 4, 4, 4, 4]),
        (5, 5, 5, [0, 1, 2, 3, 4]),
        (6, 3, 6, [0, 1, 2, 3, 4, 5]),
        (1, 1, 1, [0]),
    ],
)
def test_the_last_share_is_padded_with_the_last_member(members, devices, padded, order):
    layout = Layout(members, devices)
    tree = {"a": np.arange(members), "b": np.arange(members * 2.0).reshape(members, 2)}
    wide = layout.pad(tree)
    assert layout.padded == padded
    np.testing.assert_array_equal(wide["a"], order)
    np.testing.assert_array_equal(wide["b"], tree["b"][order])
    back = layout.unpad(wide)
    for name in tree:
        np.testing.assert_array_equal(back[name], tree[name])


@pytest.mark.parametrize(("members", "form"), [(1, "single"), (2, "vmap"), (5, "vmap")])
def test_form(members, form):
    assert Layout(members, 1).form == form


@pytest.mark.parametrize("members", [1, 3])
def test_map_applies_the_function_to_each_member(members):
    """x · w summed over the last axis, w shared: member i has x = i + (0, 1), so 2 · i + 3 · (i + 1)."""
    x = np.arange(members)[:, None] + np.array([[0.0, 1.0]])
    result = Layout(members, 1).map(lambda x, w: (x * w).sum())(x, jnp.array([2.0, 3.0]))
    np.testing.assert_allclose(result, [5.0 * i + 3 for i in range(members)])


@pytest.mark.parametrize(("members", "blocks"), [(3, 1), (20, 3)])
@pytest.mark.parametrize("in_place", [False, True])
def test_results_may_take_the_place_of_the_argument(in_place, members, blocks):
    """In one block of 3, and in three of 7 that hold 20 members and one of padding."""
    layout = Layout(members, 1)
    assert (layout.blocks, layout.padded) == (blocks, 21 if blocks == 3 else 3)
    x = jnp.asarray(layout.pad(np.arange(4.0 * members).reshape(members, 4)))
    expected = np.asarray(x) + 2
    moved, total = layout.map(lambda x, y: (x + y, x.sum()), in_place=in_place)(x, 2.0)
    assert x.is_deleted() is in_place
    np.testing.assert_array_equal(moved, expected)
    np.testing.assert_array_equal(total, (expected - 2).sum(1))


@pytest.mark.parametrize(
    ("members", "devices", "width", "blocks"),
    [(8, 1, 8, 1), (9, 1, 10, 2), (16, 2, 16, 1), (17, 2, 20, 2), (17, 1, 18, 3), (64, 2, 64, 4), (65, 2, 70, 5)],
)
def test_blocks_are_equal_and_pad_little(members, devices, width, blocks):
    """Of at most BLOCK = 8 members; less than one member of padding a block."""
    layout = Layout(members, devices)
    assert (layout.padded, layout.blocks) == (width, blocks)
    assert dataclasses.replace(layout, width=layout.padded).blocks == blocks


@pytest.mark.parametrize(("width", "blocks"), [(10, 2), (12, 2), (16, 2), (17, 1), (20, 4), (22, 1)])
def test_blocks_of_a_given_width_divide_it_and_are_no_less_than_half_of_the_most(width, blocks):
    """Say of a population, which has no padding: 17 and 22 have no divisor from 4 to 8."""
    assert Layout(width, 1, width).blocks == blocks


def test_no_device_is_left_without_a_member():
    assert Layout.over_all_devices(1) == Layout(1, 1)
    assert Layout.over_all_devices(10_000) == Layout(10_000, jax.local_device_count())


@pytest.mark.parametrize("width", [1, 2, 5])
def test_never_alone_changes_no_value(width):
    """w · x + b for x = 0, 1, … beside a shared w: alone, mapped, and with two results."""

    def fn(x, w):
        return {"y": w * x + 1, "x": x}

    x, w = jnp.arange(width, dtype=jnp.float32), jnp.float32(3)
    found = jax.jit(jax.vmap(never_alone(fn), (0, None)))(x, w)
    np.testing.assert_array_equal(found["y"], 3.0 * np.arange(width) + 1)
    np.testing.assert_array_equal(found["x"], np.arange(width))
    assert never_alone(fn)(jnp.float32(2), w) == {"y": 7.0, "x": 2.0}


PROGRAM = """
import json, jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from jaxrl.core.batching import never_alone
from jaxrl.devices.layout import Layout

@never_alone
def member(tree, target):
    weights, seed = tree
    def step(w, key):
        x = jax.random.normal(key, (32, 16))
        loss = lambda w: jnp.mean((jnp.tanh(x @ w[0]) @ w[1] - target) ** 2)
        value, g = jax.value_and_grad(loss)(w)
        return jax.tree.map(lambda p, g: p - 0.1 * g, w, g), value
    return jax.lax.scan(step, weights, jax.random.split(jax.random.key(seed), 20))

def trained(members, devices):
    rng = np.random.default_rng(0)
    w = [rng.normal(size=(10, *shape)).astype(np.float32)[:members] for shape in ((16, 24), (24, 3))]
    layout = Layout(members, devices)
    out = layout.map(member)(layout.pad((tuple(w), np.arange(members))), jnp.float32(0.3))
    assert len(jax.tree.leaves(out)[0].sharding.device_set) == devices
    out = jax.device_get(layout.unpad(out))
    return np.concatenate([x.reshape(members, -1) for x in jax.tree.leaves(out)], 1)[:5].tolist()

layouts = ((5, 1), (5, 2), (5, 8), (10, 2), (10, 1), (1, 1))
print(json.dumps({f"{m} members, {d} devices": trained(m, d) for m, d in layouts}))
print(json.dumps([Layout.over_all_devices(n).devices for n in (5, 20)]))
"""


@pytest.fixture(scope="module")
def on_eight_devices():
    """Twenty gradient steps of small networks: by layout, the weights and losses of its first five members."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    trained, spread = map(json.loads, done.stdout.splitlines())
    return {name: np.array(x, np.float32) for name, x in trained.items()}, spread


def test_members_are_spread_over_all_devices(on_eight_devices):
    assert on_eight_devices[1] == [3, 8]  # two members to a device at least, one of them padding


@pytest.mark.parametrize(
    "name",
    [
        "10 members, 2 devices",  # 5 to a device as well
        "10 members, 1 devices",  # two blocks of 5, one after the other
        "5 members, 2 devices",  # 3 to a device, one of them padding
        "5 members, 8 devices",  # one to a device, computed as two
    ],
)
def test_a_members_bits_do_not_depend_on_the_layout(on_eight_devices, name):
    trained = on_eight_devices[0]
    np.testing.assert_array_equal(trained[name], trained["5 members, 1 devices"])


@pytest.mark.parametrize("name", ["5 members, 2 devices", "5 members, 8 devices", "1 members, 1 devices"])
def test_any_layout_and_form_agree_to_rounding(on_eight_devices, name):
    trained = on_eight_devices[0]
    expected = trained["5 members, 1 devices"][: len(trained[name])]
    assert np.isfinite(expected).all() and (np.abs(np.diff(expected, axis=0)).max(1) > 0.1).all()
    np.testing.assert_allclose(trained[name], expected, rtol=1e-4, atol=1e-5)
