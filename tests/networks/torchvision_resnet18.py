"""What torchvision's `resnet18` gives for made-up weights and images: torchvision_resnet18.json, which tests compare with.

`python -m tests.networks.torchvision_resnet18` writes it anew, where torch and torchvision are installed.
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")


def state_dict(seed=0):
    """An array for each name of its state dict but the counts of batches, by a generator that NumPy promises to keep.

    Of a scale that training has: kernels as He et al. (2015) draw them, statistics that are not those of the activations.
    """
    rng = np.random.RandomState(seed)
    arrays = {}

    def convolution(name, features, inputs, side):
        bound = (6 / (inputs * side * side)) ** 0.5
        arrays[f"{name}.weight"] = rng.uniform(-bound, bound, (features, inputs, side, side)).astype(np.float32)

    def norm(name, features):
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.3, 0.3),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 3),
        ):
            arrays[f"{name}.{part}"] = rng.uniform(low, high, features).astype(np.float32)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    for layer, inputs, features in ((1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)):
        for block in (0, 1):
            convolution(f"layer{layer}.{block}.conv1", features, features if block else inputs, 3)
            norm(f"layer{layer}.{block}.bn1", features)
            convolution(f"layer{layer}.{block}.conv2", features, features, 3)
            norm(f"layer{layer}.{block}.bn2", features)
        if layer > 1:
            convolution(f"layer{layer}.0.downsample.0", features, inputs, 1)
            norm(f"layer{layer}.0.downsample.1", features)
    arrays["fc.weight"] = rng.uniform(-0.05, 0.05, (1000, 512)).astype(np.float32)
    arrays["fc.bias"] = rng.uniform(-0.05, 0.05, 1000).astype(np.float32)
    return arrays


def images(seed=1, number=2, side=64):
    """Random pixels uint8 [number, side, side, 3]."""
    return np.random.RandomState(seed).randint(0, 256, (number, side, side, 3)).astype(np.uint8)


def network(arrays):
    """torchvision's network with a state dict's arrays, for evaluation; it has all of their names, and no more."""
    import torch
    from torchvision.models import resnet18

    torch.set_num_threads(1)
    model = resnet18().eval()
    counts = {name: x for name, x in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({name: torch.from_numpy(x) for name, x in arrays.items()} | counts, strict=True)
    return model


def features(model, pixels):
    """What comes before torchvision's last layer, for pixels uint8 [N, H, W, 3] normalised as it says: float32 [N, 512]."""
    import torch
    from torchvision.models import ResNet18_Weights
    from torchvision.transforms.functional import normalize

    said = ResNet18_Weights.IMAGENET1K_V1.transforms()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    model.fc = torch.nn.Identity()
    with torch.inference_mode():
        return model(normalize(x, said.mean, said.std)).numpy()


def main():
    import torch
    import torchvision

    found = features(network(state_dict()), images())
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    FILE.write_text(
        json.dumps({"versions": versions, "features": [[float(f"{x:.8g}") for x in row] for row in found]}) + "\n"
    )


if __name__ == "__main__":
    main()
