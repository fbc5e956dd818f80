"""networks/resnet.py: features are torchvision's for its weights; agents take it; what does not fit is named."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrl.core import safetensors
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.trees import member
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.networks.resnet import Block, ResNet18, from_torchvision, is_torchvision
from jaxrl.networks.torsos import Torso, resolve, torso_of
from tests.extras import extra
from tests.networks import torchvision_resnet18 as theirs
from tests.small import released, small_trainer

NAMES = ["resnet18", "resnet18_frozen_bn"]


@pytest.fixture(scope="module")
def weights():
    return theirs.state_dict()


def written(arrays, file):
    """A file by the format's description."""
    places, end = {}, 0
    for name, x in arrays.items():
        places[name] = {"dtype": "F32", "shape": x.shape, "data_offsets": [end, end + x.nbytes]}
        end += x.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}} | places).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for x in arrays.values():
            out.write(x.tobytes())


def our_features(file, pixels):
    """By a torso without layers behind it, with the weights of a file."""
    params = {tuple(name.split("/")): x for name, x in from_torchvision(safetensors.read(file)).items()}
    torso = Torso(Box(pixels.shape[1:], 0, 255, jnp.uint8), "resnet18_frozen_bn", ())
    expected = jax.eval_shape(torso.init, jax.random.key(0), pixels)["params"]["ResNet18_0"]
    assert {k: x.shape for k, x in flatten_dict(expected).items()} == {k: x.shape for k, x in params.items()}
    return jax.jit(torso.apply)({"params": {"ResNet18_0": unflatten_dict(params)}}, pixels)


def assert_close(features, expected):
    """To 1e-4, of numbers up to 50."""
    assert features.shape == expected.shape
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)


def test_features_are_those_that_torchvision_gave(weights, tmp_path):
    """For weights and images that the script of torchvision_resnet18.json made too."""
    written(weights, tmp_path / "x.safetensors")
    expected = np.float32(json.loads(theirs.FILE.read_text())["features"])
    assert np.ptp(expected, 0).max() > 0.05 * expected.max()  # the images are told apart
    assert_close(our_features(tmp_path / "x.safetensors", theirs.images()), expected)


def test_features_are_torchvisions_here(weights, tmp_path):
    """Of the installed one, its file by its own library; other weights and images than above, sides that 32 divides not."""
    extra("torchvision")
    model = theirs.network(theirs.state_dict(2))
    extra("safetensors.torch").save_file(model.state_dict(), tmp_path / "x.safetensors")
    pixels = theirs.images(3, 4, 75)
    assert_close(our_features(tmp_path / "x.safetensors", pixels), theirs.features(model, pixels))


def test_half_precision_is_read_as_numbers(weights):
    name = "layer4.1.conv2.weight"
    found = from_torchvision(weights | {name: weights[name].astype(ml_dtypes.bfloat16)})["stage4_block2/conv2/kernel"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, weights[name].transpose(2, 3, 1, 0), rtol=2**-8)


def test_scale_and_bias_by_hand(weights):
    """(x - 3) / √(4 - ε + ε) · 5 + 7 is 2.5 x - 0.5."""
    given = {"weight": 5, "bias": 7, "running_mean": 3, "running_var": 4 - 1e-5}
    changed = {f"layer3.0.downsample.1.{part}": np.full(256, x, np.float32) for part, x in given.items()}
    found = from_torchvision(weights | changed)
    np.testing.assert_allclose(found["stage3_block1/shortcut_norm/scale"], 2.5, rtol=1e-6)
    np.testing.assert_allclose(found["stage3_block1/shortcut_norm/bias"], -0.5, rtol=1e-5)


REFUSED = {
    "missing": ({"layer2.0.bn1.bias": None}, "^no layer2.0.bn1.bias, which torchvision's resnet18 has$"),
    "shape": (
        {"conv1.weight": np.zeros((64, 1, 7, 7), np.float32)},
        r"^conv1.weight is float32\[64, 1, 7, 7\], in torchvision's resnet18 float32\[64, 3, 7, 7\]$",
    ),
    "dtype": ({"bn1.weight": np.zeros(64, np.int8)}, r"^bn1.weight is int8\[64\], in torchvision's resnet18 float32\[64\]$"),
    "deeper": (
        {"layer1.2.conv1.weight": np.zeros((64, 64, 3, 3), np.float32)},  # as resnet34 has
        "^layer1.2.conv1.weight is none of the arrays of torchvision's resnet18$",
    ),
    "variance": ({"bn1.running_var": np.full(64, -1, np.float32)}, "^bn1.running_var has values that are no variances$"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_other_arrays_are_refused_by_name(changes, said, weights):
    arrays = {name: x for name, x in (weights | changes).items() if x is not None}
    with pytest.raises(InputError, match=said):
        from_torchvision(arrays)
    assert is_torchvision(arrays)


def test_other_files_are_not_taken_for_torchvisions(weights):
    counts = {"bn1.num_batches_tracked": np.int64(3)}
    assert is_torchvision(weights) and from_torchvision(weights | counts).keys() == from_torchvision(weights).keys()
    assert not is_torchvision([]) and not is_torchvision(from_torchvision(weights)) and not is_torchvision(["conv1.weight"])


@pytest.mark.parametrize("norm", ["group", *released("batch")])
def test_a_batch_is_its_images_and_every_parameter_has_a_gradient(norm):
    """Drawn parameters give features of a scale that can be learnt from."""
    network, x = ResNet18(norm), jnp.array(theirs.images(0, 2, 32)[:, None] / 255, jnp.float32)
    params = jax.jit(network.init)(jax.random.key(0), x)

    def weighed(params, x):
        features = network.apply(params, x)
        return (features * jnp.cos(jnp.arange(features.size)).reshape(features.shape)).sum(), features

    gradient = jax.jit(jax.grad(weighed, has_aux=True))
    slopes, features = gradient(params, x)
    assert features.shape == (2, 1, 512) and 0.1 < float(features.std()) < 100
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(slopes))
    swapped = gradient(params, x[::-1])[1][::-1]
    np.testing.assert_allclose(features, swapped, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", [*released("group"), "batch"])
def test_members_side_by_side(norm):
    """A block of each of two members, and its gradients, are those of the members one by one, but for rounding."""
    block, x = Block(64, 2, norm), jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 32))
    shapes, rng = jax.eval_shape(block.init, jax.random.key(0), x[0]), np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.array(0.1 * rng.normal(size=(2, *p.shape)), p.dtype), shapes)
    gradient = jax.value_and_grad(lambda params, x: (block.apply(params, x) ** 2).sum(), (0, 1))
    together = jax.jit(jax.vmap(gradient))(params, x)
    alone = [jax.jit(gradient)(*member((params, x), i)) for i in range(2)]
    for i in range(2):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), member(together, i), alone[i])


def test_each_kind_has_parameters_of_other_names():
    """So that weights for one cannot be loaded into the other, whose numbers they are not."""
    shapes = [jax.eval_shape(ResNet18(n).init, jax.random.key(0), jnp.zeros((32, 32, 3))) for n in ("group", "batch")]
    group, batch = ({"/".join(path) for path in flatten_dict(s["params"])} for s in shapes)
    assert "stage2_block1/norm1/scale" in batch and "stage2_block1/group_norm1/scale" in group
    assert group & batch == {name for name in batch if name.endswith("/kernel")}


def pixel_env():
    def reset(key, params):
        return jnp.int32(0), jnp.zeros((32, 40, 3), jnp.uint8)

    def step(key, state, action, params):
        return state + 1, EnvStep(jnp.zeros((32, 40, 3), jnp.uint8), jnp.float32(0), state > 8, jnp.bool_(False))

    return Env(EnvSpec("Pixels", Box((32, 40, 3), 0, 255, jnp.uint8), Discrete(2)), (), reset, step)


@pytest.mark.parametrize(
    ("agent", "torso"),
    [("dqn", NAMES[1]), ("ppo", NAMES[0]), *released(("dqn", NAMES[0]), ("ppo", NAMES[1]))],
)
def test_agents_take_either(agent, torso):
    """By shapes; dense layers follow the features."""
    trainer = small_trainer(agent, pixel_env(), config={"torso": torso, "hidden_sizes": (16, 8)})
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    assert jax.tree.structure(jax.eval_shape(trainer.step, state)[0]) == jax.tree.structure(state)
    kernels = {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(state.agent)}
    stems = [
        name for name, shape in kernels.items() if "['ResNet18_0']['stem']['kernel']" in name and shape == (7, 7, 3, 64)
    ]
    dense = [name for name, shape in kernels.items() if "['MLP_0']['Dense_0']['kernel']" in name and shape == (512, 16)]
    assert stems and len(stems) == len(dense)


@pytest.mark.parametrize("name", NAMES)
def test_only_images_large_enough_are_taken(name):
    """Never by "auto"; of several parts by the images among them."""
    assert resolve(name, Box((32, 33, 1))) == name and resolve("auto", Box((224, 224, 3))) == "nature"
    torso = Torso(Product.of(picture=Box((32, 32, 1)), speed=Box((3,))), name, (5,))
    params = jax.eval_shape(torso.init, jax.random.key(0), {"picture": jnp.zeros((32, 32, 1)), "speed": jnp.zeros(3)})[
        "params"
    ]
    assert params["MLP_0"]["Dense_0"]["kernel"].shape == (512 + 3, 5)
    with pytest.raises(
        InputError, match=rf"^torso = {name} needs images \[H >= 32, W >= 32, C\].*; valid here: auto, .*nips$"
    ):
        torso_of(name, Box((31, 64, 3)), ())
    with pytest.raises(InputError, match=f"^torso = {name} needs images .*; valid here: auto, mlp$"):
        torso_of(name, Box((4,)), ())
    with pytest.raises(InputError, match="nearest: .*resnet18"):
        torso_of("resnet_18", Box((64, 64, 3)), ())
