"""networks/policy.py: the right family, shapes and parameters for every action space, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product
from jaxrl.networks.policy import PolicyHead, bounded_log_std, check_space
from jaxrl.ops.distributions import Beta, Categorical, Gaussian, Joint, MultiCategorical, SquashedGaussian

BOX = Box((2, 3), -1.0, 3.0)
PAIR = Product((MultiDiscrete((2, 3)), Box((), 0.0, 1.0)))
NESTED = Product.of(turn=Discrete(3), arm=PAIR, legs=BOX)
FEATURES = 5


def applied(head, features):
    """The distribution for `features`, and the shapes of the head's parameters."""
    policy, params = jax.jit(head.init_with_output)(jax.random.key(0), features)
    return policy, {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(params)}


def sizes(params):
    """The output sizes of the linear layers, and the lengths of the parameters log_std."""
    dense = sorted(shape[1] for name, shape in params.items() if "kernel" in name)
    return dense, sorted(shape[0] for name, shape in params.items() if "log_std" in name)


@pytest.mark.parametrize(
    ("space", "box_policy", "dependent", "family", "dense", "log_std"),
    [
        (Discrete(4), "beta", False, Categorical, [4], []),
        (MultiDiscrete((2, 3)), "gaussian", False, MultiCategorical, [5], []),
        (BOX, "gaussian", False, Gaussian, [6], [6]),
        (BOX, "gaussian", True, Gaussian, [12], []),
        (BOX, "squashed_gaussian", False, SquashedGaussian, [6], [6]),
        (BOX, "squashed_gaussian", True, SquashedGaussian, [12], []),
        (BOX, "beta", False, Beta, [12], []),
        (Box((2,)), "gaussian", False, Gaussian, [2], [2]),
        (NESTED, "squashed_gaussian", False, Joint, [1, 3, 5, 6], [1, 6]),
        (NESTED, "beta", True, Joint, [2, 3, 5, 12], []),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [(), (3, 2)])
def test_families_shapes_and_parameters(space, box_policy, dependent, family, dense, log_std, batch):
    head = PolicyHead(space, box_policy, dependent)
    features = jax.ShapeDtypeStruct((*batch, FEATURES), jnp.float32)

    def everything(features):
        policy, params = head.init_with_output(jax.random.key(0), features)
        x, log_prob = policy.sample_and_log_prob(jax.random.key(1))
        return policy, params, (x, policy.mode()), (log_prob, policy.log_prob(x), policy.entropy(), policy.kl(policy))

    policy, params, actions, numbers = jax.eval_shape(everything, features)
    example = jax.eval_shape(space.sample, jax.random.key(0))
    expected = jax.tree.map(lambda x: ((*batch, *x.shape), x.dtype), example)
    shapes = {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(params)}
    assert isinstance(policy, family) and sizes(shapes) == (dense, log_std)
    assert all(x.shape[: len(batch)] == batch for x in jax.tree.leaves(policy))
    for action in actions:
        assert jax.tree.map(lambda x: (x.shape, x.dtype), action) == expected
    assert all(x.shape == batch and x.dtype == jnp.float32 for x in numbers)


def test_a_new_policy_is_nearly_the_same_everywhere():
    """Kernels of scale 0.01: uniform over integers, and in boxes centred, with deviation 1."""
    features = jnp.array(np.random.default_rng(0).normal(size=(100, FEATURES)), jnp.float32)
    policy, _ = applied(PolicyHead(NESTED), features)
    turn, (pair, gas), legs = policy.parts[0], policy.parts[1].parts, policy.parts[2]
    np.testing.assert_allclose(turn.entropy(), np.full(100, np.log(3)), rtol=1e-3)
    np.testing.assert_allclose(pair.entropy(), np.full(100, np.log(6)), rtol=1e-3)
    np.testing.assert_allclose(legs.mode(), np.ones((100, 2, 3)), atol=0.15)
    np.testing.assert_allclose(gas.mode(), np.full(100, 0.5), atol=0.05)
    np.testing.assert_array_equal(legs.log_std, np.zeros((100, 6)))


def test_deviations_that_depend_on_the_state():
    """They start at 1, grow with what the layer says, and their logarithms stay within [-5, 2]."""
    raw = jnp.array([-1e6, -1.0, 0.0, 1.0, 1e6])
    low, less, here, more, high = bounded_log_std(raw)
    assert np.isclose(low, -5, atol=1e-5) and np.isclose(high, 2, atol=1e-5) and low < less < here < more <= high
    np.testing.assert_allclose(here, 0, atol=1e-6)
    policy, _ = applied(PolicyHead(BOX, state_dependent_std=True), jnp.zeros((2, FEATURES)))
    np.testing.assert_allclose(policy.log_std, np.zeros((2, 6)), atol=1e-6)


def test_beta_has_a_single_peak_whatever_the_features():
    features = jnp.array(np.random.default_rng(0).normal(size=(50, FEATURES)) * 1e4, jnp.float32)
    policy, _ = applied(PolicyHead(BOX, "beta"), features)
    assert (policy.alpha >= 1).all() and (policy.beta >= 1).all() and np.isfinite(policy.mode()).all()
    assert jax.vmap(BOX.contains)(policy.mode()).all()


def test_parts_of_a_product_have_parameters_of_their_own():
    policy, params = applied(PolicyHead(Product((Discrete(3), Discrete(3)))), jnp.ones((1, FEATURES)))
    assert sizes(params) == ([3, 3], [])
    assert not np.allclose(policy.parts[0].logits, policy.parts[1].logits)


@pytest.mark.parametrize(
    ("space", "box_policy"),
    [
        (Discrete(2), "beta"),
        (MultiDiscrete((2, 2)), "squashed_gaussian"),
        (Box((2,)), "gaussian"),
        (Box((2,), -1.0, 1.0), "beta"),
        (NESTED, "squashed_gaussian"),
        (Product.of(a=PAIR, b=Box(())), "gaussian"),
    ],
    ids=str,
)
def test_valid_spaces(space, box_policy):
    check_space(space, box_policy, "ppo")


@pytest.mark.parametrize(
    ("space", "box_policy", "message"),
    [
        (Box((2,)), "beta", r"'ppo': box_policy = beta needs bounded actions, not Box\(2,\).*inf; valid here: gaussian$"),
        (
            Box((2,), 0.0),
            "squashed_gaussian",
            r"box_policy = squashed_gaussian .*low = 0.0, high = inf; valid here: gaussian",
        ),
        (Box((2,), (0.0, 1.0), (1.0, 1.0)), "beta", r"valid here: gaussian"),
        (Product.of(a=Discrete(2), b=Product((Box(()),))), "beta", r"not Box\(\) "),
        (Box((2,), 0, 3, jnp.int32), "gaussian", r"'ppo' needs boxes of floats as actions, not Box\(2,\) of int32"),
        (Box((2,), 0, 1, jnp.bool_), "gaussian", "of bool"),
    ],
    ids=str,
)
def test_refused_spaces(space, box_policy, message):
    with pytest.raises(InputError, match=message):
        check_space(space, box_policy, "ppo")
