"""Members: what is trained side by side. A member is one seed of one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrl.core.errors import InputError

MAX_SEED = 2**31  # seeds are int32

Name = int | tuple[int, int]  # a seed; in a sweep (configuration, seed)


class Member(NamedTuple):
    """What sets one member apart. config: its configuration's number in a sweep, None where there is only one.

    hparams, env_params: traced settings that replace the experiment's own.
    """

    seed: int
    config: int | None = None
    hparams: Mapping[str, Any] = {}
    env_params: Mapping[str, Any] = {}

    @property
    def label(self) -> dict[str, int]:
        """How rows of metrics name it."""
        return {"seed": self.seed} if self.config is None else {"config": self.config, "seed": self.seed}

    @property
    def name(self) -> Name:
        """Its seed; in a sweep (configuration, seed)."""
        return self.seed if self.config is None else (self.config, self.seed)

    def to_json(self) -> dict[str, Any]:
        """Its keywords, those at their defaults left out."""
        return {name: value for name, value in self._asdict().items() if value not in (None, {})}


def check_seeds(first: int, count: int) -> None:
    """Raises ValueError where one of `count` seeds, from `first` on, does not exist."""
    if first + count > MAX_SEED:
        raise InputError(f"seed = {first} is out of range: must be >= 0 and < 2**31 - {count}, for that many seeds")
