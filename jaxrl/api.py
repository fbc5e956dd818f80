"""The library's front door: what was trained, as a policy that any simulator can be played with."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.policy import Policy
from jaxrl.runs.rundir import load


def policy(source: Any, *, greedy: bool = True, member: int = 0, seed: int = 0) -> Policy:
    """A trained policy on the host: `action, memory = policy(obs, memory)`; see `Policy`.

    source: a directory; a result, of which `member` is taken; or (trainer, state), the state of one member. greedy: the
    evaluation policy, else the behaviour policy, whose draws follow from `seed`. Raises ValueError.
    """
    if isinstance(source, str | PathLike):
        trainer, states = load(Path(source))
        members = len(states.iteration)
        if not 0 <= member < members:
            raise InputError(f"member = {member} is out of range: {source} has {members}")
        return Policy(trainer, trees.member(states, member), greedy=greedy, seed=seed)
    found = source.agent(member) if hasattr(source, "agent") and not isinstance(source, tuple) else source
    if not isinstance(found, tuple) or len(found) != 2:
        raise InputError(f"a policy is made of a directory, a result or (trainer, state), not {type(source).__name__}")
    return Policy(*found, greedy=greedy, seed=seed)
