"""`jaxrl pretrain`: `jaxrl train` of an agent that learns from examples, in the environment that gives them."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags, train
from jaxrl.cli.options import TrainOptions
from jaxrl.core.errors import InputError, unknown
from jaxrl.devices import platform
from jaxrl.experiment import registry
from jaxrl.experiment.experiment import DEFAULT_TOTAL_STEPS
from jaxrl.networks.torsos import instance, remembers

KINDS = {
    "classify": "labels of images, or recorded integer actions",
    "clone": "what to do, from recorded actions of any space",
    "reconstruct": "the observation itself: an autoencoder",
}
EVALUATIONS, PATIENCE = 20, 5  # of a training by default: it stops early and keeps its best policy


def main(args: Sequence[str]) -> int:
    """Learn from data; all flags are those of `jaxrl train`, with --data in place of --env."""
    if not args or args[0] in ("-h", "--help"):
        print("usage: jaxrl pretrain KIND --data DATA [flags of jaxrl train]. What is learnt:")
        print("\n".join(f"  {kind:12}{what}" for kind, what in KINDS.items()))
        print("DATA: what jaxrl record wrote, a folder of .npz with images and labels, or digits")
        return 0
    kind, words = args[0], list(args[1:])
    if kind not in KINDS:
        raise unknown("kind of pretrain", kind, KINDS)
    if {"-h", "--help"} & set(words):
        return train.main([kind, "--help"])
    platform.configure()  # before a torso of one's own, which may compute something, is imported
    known = flags.fields(registry.find_agent(kind)[1].Config) | flags.fields(TrainOptions) | {"data": str}
    words = flags.spelled(words, known, f"jaxrl pretrain {kind}")
    return train.main([kind, *_defaults(kind, words), *_of_data(kind, words)])  # of a flag given twice the last holds


def _of_data(kind: str, words: list[str]) -> list[str]:
    """The flags with the environment of --data."""
    data = flags.peek(words, "--data")
    if not data:
        raise InputError(f"jaxrl pretrain {kind} needs --data: a folder, or digits")
    if flags.peek(words, "--env"):
        raise InputError("--env and --data: jaxrl pretrain learns from --data alone")
    rest = [word for i, word in enumerate(words) if word != "--data" and (i == 0 or words[i - 1] != "--data")]
    return ["--env", f"dataset:{data}", *(word for word in rest if not word.startswith("--data="))]


def _defaults(kind: str, words: list[str]) -> list[str]:
    """The target and its order; evaluations on the validation split, by which training stops early and keeps the best."""
    found = ["--env-kwarg", "target=observation"] if kind == "reconstruct" else []
    if remembers(instance(registry.find_torso(flags.peek(words, "--torso") or "auto"))):
        found += ["--env-kwarg", "sequences=true"]
    steps, every = (flags.peek(words, flag) for flag in ("--total-steps", "--eval-every"))
    if every == "0":
        return found
    if not every:
        found += ["--eval-every", str(max(int(steps or DEFAULT_TOTAL_STEPS) // EVALUATIONS, 1))]
    return [*found, "--patience", str(PATIENCE), "--keep-best"]
