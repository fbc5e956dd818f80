"""Torsos: observations -> features. `torso_of` makes one of what a Config's field of that name says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core import checks
from jaxrl.core.errors import InputError
from jaxrl.core.settings import OneOf, check
from jaxrl.core.spaces import ArraySpace, Discrete, Product, Space, without_mask
from jaxrl.core.types import PyTree
from jaxrl.networks.conv import Conv
from jaxrl.networks.dense import Dense
from jaxrl.networks.memory import GRU, LSTM, Transformer
from jaxrl.networks.resnet import Norm, ResNet18

TorsoName = Literal["auto", "mlp", "minatar", "nips", "nature", "resnet18", "resnet18_frozen_bn"]
CORES = ("gru", "lstm", "transformer")
# The type of a Config's `torso`: a name, or a flax Module of a user's, or the class of one whose fields have defaults.
TorsoSetting = Annotated[str, OneOf((*get_args(TorsoName), *CORES), nn.Module)]
Initializer = Callable[..., jax.Array]
lecun_normal = nn.initializers.lecun_normal()


@dataclasses.dataclass(frozen=True)
class Layers:
    """How hidden layers are made.

    dense: a linear layer's class or factory. layer_norm: normalise before the activation. dropout: probability that a unit
    is left out, where the network is applied with a key named "dropout": before normalisation, as in DroQ (Hiraoka et al.
    2022), which with ReLU and without normalisation is the same as behind the activation (Srivastava et al. 2014).
    """

    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Initializer = lecun_normal
    dense: Callable[..., nn.Module] = Dense
    layer_norm: bool = False
    dropout: float = 0.0

    def after(self, x: jax.Array) -> jax.Array:
        """What follows a linear layer. To be called within a compact module."""
        x = Dropout(self.dropout)(x) if self.dropout else x
        return self.activation(nn.LayerNorm()(x) if self.layer_norm else x)


class Dropout(nn.Module):
    """Sets units to 0 with probability `rate` and scales the others by 1 / (1 - rate), where there is a key "dropout"."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.has_rng("dropout"):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0.0)


class MLP(nn.Module):
    """Dense layers, each followed by normalisation, if wanted, and the activation."""

    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.hidden_sizes:
            x = self.layers.after(self.layers.dense(size, kernel_init=self.layers.kernel_init)(x))
        return x


class CNN(nn.Module):
    """Convolutions, then dense layers: images [..., H, W, C] -> float32 [..., F].

    convolutions: (filters, side of the window, stride) of each.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features, size, stride in self.convolutions:
            x = self.layers.after(Conv(features, (size, size), self.layers.kernel_init, stride)(x))
        return MLP(self.hidden_sizes, self.layers)(x.reshape(*x.shape[:-3], -1))


# Of Young and Tian 2019 (MinAtar), of Mnih et al. 2013 (DQN at a NIPS workshop, a third of the later one's work) and of
# Mnih et al. 2015 (DQN in Nature): the name of the parameters, the convolutions, and the least side of images they take.
CNNS = {
    "minatar": ("MinAtarCNN_0", ((16, 3, 1),), 3),
    "nips": ("NIPSCNN_0", ((16, 8, 4), (32, 4, 2)), 20),
    "nature": ("NatureCNN_0", ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 36),
}
# ResNet-18 from scratch, and with BatchNorm as torchvision's weights need it: how each normalises.
RESNETS: dict[str, Norm] = {"resnet18": "group", "resnet18_frozen_bn": "batch"}
LEAST = {name: least for name, (_, _, least) in CNNS.items()} | dict.fromkeys(RESNETS, 32)  # side of images
LARGE = 64  # the least side of images that "auto" gives to the larger network


class Torso(nn.Module):
    """A torso without memory: observations [..., *shape] -> features float32 [..., F], for any leading axes.

    name_: a name of ours, or a module of a user's: (observations float32 [B, *shape]) -> features [B, ...]. Each sees
    numbers: one-hot vectors for a discrete space, images of pixels (uint8 [H, W, C]) over 255; an MLP sees them flattened.
    A ResNet's features go through the dense layers, if there are any.
    Of a product pictures go through the convolutions of a CNN; what these give and the other parts are joined before the
    dense layers. A user's sees the dict or tuple. An action mask is not seen.
    """

    space: Space
    name_: Any
    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        if isinstance(self.name_, str) and isinstance(self.space, Product):
            parts = [Torso(s, _of_part(self.name_, s), (), self.layers)(x) for s, x in _seen(self.space, obs)]
            return MLP(self.hidden_sizes, self.layers)(jnp.concatenate(parts, -1))
        x, batch = _numbers(obs, self.space)
        if not isinstance(self.name_, str):
            rows = jax.tree.map(lambda part: part.reshape(-1, *part.shape[len(batch) :]), x)
            features = instance(self.name_).copy(name="own")(rows)
            return _features(features, jax.tree.leaves(rows)[0].shape[:1]).reshape(*batch, -1)
        name = resolve(self.name_, self.space)  # type: ignore[arg-type]
        if name in CNNS:
            params, convolutions, _ = CNNS[name]
            return CNN(convolutions, self.hidden_sizes, self.layers, name=params)(x)
        if name in RESNETS:
            return MLP(self.hidden_sizes, self.layers)(ResNet18(RESNETS[name], name="ResNet18_0")(x))
        return MLP(self.hidden_sizes, self.layers)(x.reshape(*batch, -1))


class SequenceTorso(nn.Module):
    """Any torso: (memory, observations, first) -> (features float32, memory).

    Without a memory it is `Torso`: any leading axes, the memory passes through, first is not read. With one, observations
    are [T, N, ...] and first is bool [T, N]: where it holds, the memory begins anew. Every leaf of a memory is [N, ...].
    Of ours the last of hidden_sizes is the memory's, the others are the encoder's, and window is the Transformer's. A user's
    module remembers if it has a method `initial(num_envs) -> memory`, and is then called as this one is, on float32
    [T, N, *shape].
    """

    space: Space
    name_: str | nn.Module
    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()
    window: int = 16

    @property
    def remembers(self) -> bool:
        """Whether it has a memory."""
        return remembers(self.name_)

    @nn.nowrap
    def initial(self, num_envs: int) -> PyTree:
        """The memory before an episode, leaves [num_envs, ...]; () without one."""
        return self._core(parent=None).initial(num_envs) if self.remembers else ()

    @nn.compact
    def __call__(self, memory: PyTree, obs: Any, first: jax.Array | None = None) -> tuple[jax.Array, PyTree]:
        if not self.remembers:
            return Torso(self.space, self.name_, self.hidden_sizes, self.layers)(obs), memory
        if isinstance(self.name_, str):
            return self._core()(memory, Torso(self.space, "auto", self.hidden_sizes[:-1], self.layers)(obs), first)
        x, batch = _numbers(obs, self.space)
        features, memory = self._core(name="own")(memory, x, first)
        return _features(features, batch).reshape(*batch, -1), memory

    @nn.nowrap
    def _core(self, **module: Any) -> Any:
        if not isinstance(self.name_, str):
            return instance(self.name_).copy(**module)
        features = self.hidden_sizes[-1]
        if self.name_ == "transformer":
            return Transformer(features, window=self.window, **module)
        return GRU(features, **module) if self.name_ == "gru" else LSTM(features, **module)


def torso_of(
    setting: Any, space: Space, hidden_sizes: tuple[int, ...], layers: Layers = Layers(), window: int = 16
) -> SequenceTorso:
    """The torso that a Config's `torso` means for a space: a name of ours, or a module or a module's class of a user's.

    Raises InputError where it cannot be made, or cannot take the space's observations.
    """
    setting = instance(check("torso", setting, TorsoSetting))
    made = SequenceTorso(space, setting, hidden_sizes, layers, window)
    if not isinstance(setting, str):
        _check_own(made)
    elif not made.remembers:
        resolve(setting, space)  # type: ignore[arg-type]
    else:
        _check_core(made)
    return made


def remembers(setting: Any) -> bool:
    """Whether a Config's `torso` has a memory: ours by name, a user's module by its method `initial`."""
    return setting in CORES if isinstance(setting, str) else hasattr(setting, "initial")


def instance(setting: Any) -> Any:
    """A Config's `torso` with a user's class made a module. Raises InputError where the class needs arguments."""
    if not isinstance(setting, type):
        return setting
    with checks.explained(f"torso = {setting.__name__} needs arguments, so give an instance:", (Exception,)):
        return setting()


def resolve(name: TorsoName, space: Space) -> TorsoName:
    """The torso that `name` means for `space`: "auto" is a CNN for images [H, W, C], by their size, else an MLP.

    Raises InputError where the torso cannot take the observation.
    """
    if isinstance(space, Product):
        for part, _ in _seen(space):
            resolve(_of_part(name, part), part)  # type: ignore[arg-type]
        return name
    shape = space.shape
    side = min(shape[:2]) if len(shape) == 3 else 0
    fitting = [cnn for cnn, least in LEAST.items() if side >= least]
    if name == "auto":
        return "nature" if side >= LARGE else "minatar" if fitting else "mlp"
    if name in LEAST and name not in fitting:
        least, valid = LEAST[name], ", ".join(["auto", "mlp", *fitting])
        raise InputError(f"torso = {name} needs images [H >= {least}, W >= {least}, C], not {space}; valid here: {valid}")
    return name


def _check_core(made: SequenceTorso) -> None:
    resolve("auto", made.space)
    if not made.hidden_sizes:
        raise InputError(f"torso = {made.name_} needs hidden_sizes: the last is the memory's size")
    size, heads = made.hidden_sizes[-1], Transformer.num_heads
    if made.name_ == "transformer" and size % heads:
        raise InputError(f"torso = transformer splits the last of hidden_sizes among {heads} heads; {size} does not divide")


def _check_own(made: SequenceTorso) -> None:
    """A user's module on shapes alone: T = 3 steps of N = 2 environments."""
    name, first = type(made.name_).__name__, jnp.ones((3, 2), bool)
    obs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), checks.element(made.space, (3, 2)))
    call = lambda: made.init_with_output(jax.random.key(0), made.initial(2), obs, first)[0][1]  # noqa: E731
    with checks.explained(f"torso = {name}", (Exception,)):
        before, after = jax.eval_shape(lambda: made.initial(2)), jax.eval_shape(call)
    if jax.tree.map(lambda x: (x.shape, x.dtype), before) != jax.tree.map(lambda x: (x.shape, x.dtype), after):
        raise InputError(f"torso = {name} must return a memory of the shapes and dtypes of its initial one: {before}")


def _seen(space: Product, obs: Any = None) -> list[tuple[Any, Any]]:
    """The parts of a product of spaces, and those of its elements (None where there are none), without an action mask."""
    seen = without_mask(space)
    parts = [None] * len(seen.spaces) if obs is None else seen.parts(obs)
    return list(zip(seen.spaces, parts, strict=True))


def _of_part(name: str, part: ArraySpace) -> str:
    """The torso of one part: a CNN is only for images."""
    return "auto" if name in LEAST and len(part.shape) != 3 else name


def _numbers(obs: Any, space: Space) -> tuple[Any, tuple[int, ...]]:
    """Observations of a space as float32 [..., *shape], and their leading axes; of a product for each part, mask apart."""
    if isinstance(space, Product):
        parts = [_numbers(x, part) for part, x in _seen(space, obs)]
        return without_mask(space).join([x for x, _ in parts]), parts[0][1]
    shape = space.shape
    batch = obs.shape[: obs.ndim - len(shape)]
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.n, dtype=jnp.float32), batch
    # Both dtypes: pixels may have been normalised already, and numbers of any kind may be stored as uint8.
    pixels = len(shape) == 3 and obs.dtype == space.dtype == jnp.uint8
    return obs.astype(jnp.float32) / 255 if pixels else obs.astype(jnp.float32), batch


def _features(x: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    """What a user's module returns, as float32. Raises ValueError where its leading axes are not `batch`."""
    if x.shape[: len(batch)] != batch or x.ndim == len(batch):
        raise ValueError(f"features must be {[*batch, 'F']}, not {list(x.shape)}")
    return x.astype(jnp.float32)
