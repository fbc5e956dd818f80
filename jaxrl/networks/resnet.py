"""ResNet-18 (He et al. 2016, "Deep Residual Learning for Image Recognition", table 1), and weights of torchvision's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError, printable
from jaxrl.networks.conv import Conv, add_bias

Norm = Literal["batch", "group"]
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # of two blocks each: channels, and the stride of the first block
GROUPS = 32
EPSILON = 1e-5  # under the root of variances, torchvision's
# Of ImageNet's red, green and blue, pixels from 0 to 1: what torchvision's weights were trained with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# He et al. 2015, as torchvision draws them.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet18(nn.Module):
    """Images float32 [..., H, W, C], pixels from 0 to 1 -> features float32 [..., 512], the mean over the last map.

    norm: "batch" is BatchNorm with the statistics of a training that is over (`FrozenBatchNorm`), for weights by
    `from_torchvision`; "group" is GroupNorm (Wu & He 2018) with 32 groups, for training from scratch, where batches are
    neither large nor alike. Images of 3 channels are normalised by ImageNet's mean and deviation, others not at all.
    """

    norm: Norm = "group"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch = x.shape[:-3]
        x = _normalised(x.reshape(-1, *x.shape[-3:]))
        x = nn.relu(_norm(self.norm, "stem_norm", _convolved("stem", x, 64, 7, 2)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for i, (channels, stride) in enumerate(STAGES):
            x = Block(channels, stride, self.norm, name=f"stage{i + 1}_block1")(x)
            x = Block(channels, 1, self.norm, name=f"stage{i + 1}_block2")(x)
        return x.mean((1, 2)).reshape(*batch, -1)


class Block(nn.Module):
    """Two 3 × 3 convolutions and what they skip: float32 [N, H, W, C] -> [N, ⌈H / stride⌉, ⌈W / stride⌉, channels].

    Where shapes change, the skipped way has a 1 × 1 convolution.
    """

    channels: int
    stride: int
    norm: Norm

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(_norm(self.norm, "norm1", _convolved("conv1", x, self.channels, 3, self.stride)))
        y = _norm(self.norm, "norm2", _convolved("conv2", y, self.channels, 3, 1))
        if y.shape != x.shape:
            x = _norm(self.norm, "shortcut_norm", _convolved("shortcut", x, self.channels, 1, self.stride))
        return nn.relu(x + y)


class FrozenBatchNorm(nn.Module):
    """What BatchNorm with given statistics is, x · scale + bias for each channel: float32 [N, H, W, C] -> the same.

    scale = weight / √(variance + ε) and bias = bias' - mean · scale, which are learnt like other parameters.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return add_bias(x * jnp.broadcast_to(scale, x.shape), bias)


def _normalised(x: jax.Array) -> jax.Array:
    if x.shape[-1] != 3:
        return x
    mean, deviation = (jnp.broadcast_to(jnp.array(each, x.dtype), x.shape) for each in (MEAN, DEVIATION))
    return (x - mean) / deviation


def _convolved(name: str, x: jax.Array, channels: int, side: int, stride: int) -> jax.Array:
    """By side × side windows around every stride-th pixel of [N, H, W, C]. To be called within a compact module.

    XLA on CPU makes padding a part of the convolution, exchanges the two where windows are larger than images, and then has
    no fast kernel. (Measured on 32 images of 64 × 64, one core: forward in 2.7 s without the barrier, 0.14 s with it.)
    """
    edge = (side // 2, side // 2)
    x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
    if jax.default_backend() == "cpu":
        x = jax.lax.optimization_barrier(x)
    return Conv(channels, (side, side), he_normal, stride, use_bias=False, name=name)(x)


def _norm(norm: Norm, name: str, x: jax.Array) -> jax.Array:
    """By another name for each kind, so that the parameters of one are not taken for the other's."""
    if norm == "batch":
        return FrozenBatchNorm(name=name)(x)
    return nn.GroupNorm(GROUPS, epsilon=EPSILON, name=f"group_{name}")(x)


class Pair(NamedTuple):
    """A convolution and its normalisation: their names in torchvision's network, ours, and the kernel's shape there."""

    theirs: tuple[str, str]
    ours: tuple[str, str]
    shape: tuple[int, int, int, int]


# What torchvision's `layer{s}.{b - 1}` and our `stage{s}_block{b}` hold: theirs, ours, and the side of windows.
IN_BLOCK = (
    (("conv1", "bn1"), ("conv1", "norm1"), 3),
    (("conv2", "bn2"), ("conv2", "norm2"), 3),
    (("downsample.0", "downsample.1"), ("shortcut", "shortcut_norm"), 1),
)
OF_NORM = ("weight", "bias", "running_mean", "running_var")


def is_torchvision(names: Iterable[str]) -> bool:
    """Whether names of arrays look like those of a ResNet of torchvision, of whatever depth."""
    return {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"} <= set(names)


def from_torchvision(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of ResNet18("batch"), float32 by path ("stage1_block1/conv1/kernel"), from torchvision's `resnet18`.

    arrays: its state dict, of any floating-point dtypes, kernels as [out, in, rows, columns]. The layer behind the features
    (fc) and the counts of batches are left out. Raises InputError naming an array that is missing, has another shape or
    dtype, or is none of that network's.
    """
    pairs = _pairs()
    shapes: dict[str, tuple[int, ...]] = {f"{pair.theirs[0]}.weight": pair.shape for pair in pairs}
    shapes |= {f"{pair.theirs[1]}.{part}": pair.shape[:1] for pair in pairs for part in OF_NORM}
    found = {n: x for n, x in arrays.items() if not n.startswith("fc.") and not n.endswith(".num_batches_tracked")}
    for name in shapes | found:
        _check(name, found.get(name), shapes.get(name))
    result = {}
    for (conv, norm), ours, _ in pairs:
        weight, bias, mean, variance = (found[f"{norm}.{part}"].astype(np.float64) for part in OF_NORM)
        if not np.all(variance >= 0):
            raise InputError(f"{norm}.running_var has values that are no variances")
        scale = weight / np.sqrt(variance + EPSILON)
        result[f"{ours[0]}/kernel"] = found[f"{conv}.weight"].astype(np.float32).transpose(2, 3, 1, 0)
        result[f"{ours[1]}/scale"] = scale.astype(np.float32)
        result[f"{ours[1]}/bias"] = (bias - mean * scale).astype(np.float32)
    return result


def _pairs() -> list[Pair]:
    """All of the network, in its order."""
    pairs, before = [Pair(("conv1", "bn1"), ("stem", "stem_norm"), (64, 3, 7, 7))], 64
    for s, (channels, _) in enumerate(STAGES, 1):
        for b, inputs in ((1, before), (2, channels)):
            pairs += _of_block(f"layer{s}.{b - 1}.", f"stage{s}_block{b}/", inputs, channels)
        before = channels
    return pairs


def _of_block(theirs: str, ours: str, inputs: int, channels: int) -> list[Pair]:
    sizes = (inputs, channels, inputs)
    pairs = [
        Pair((theirs + t[0], theirs + t[1]), (ours + o[0], ours + o[1]), (channels, size, side, side))
        for (t, o, side), size in zip(IN_BLOCK, sizes, strict=True)
    ]
    return pairs[:2] if inputs == channels else pairs


def _check(name: str, x: np.ndarray | None, shape: tuple[int, ...] | None) -> None:
    """Raises InputError unless x is the array that torchvision's network has by that name, shape [*shape]."""
    if shape is None:
        raise InputError(f"{printable(name)} is none of the arrays of torchvision's resnet18")
    if x is None:
        raise InputError(f"no {name}, which torchvision's resnet18 has")
    if x.shape != shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name} is {x.dtype}{list(x.shape)}, in torchvision's resnet18 float32{list(shape)}")
