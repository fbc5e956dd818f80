"""Labels of what is shown beside each other: they say what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import ENV, Setting

MOST = 4  # settings of a label; where more differ, the directory says it shorter


class Shown(NamedTuple):
    """What has a label: a configuration of an experiment, in a directory. setting: what a sweep varies, {} of a run."""

    base: Experiment
    setting: Setting
    directory: Path


def labels(shown: Sequence[Shown]) -> list[str]:
    """One each: agent and environment where they differ, the settings that differ between those of one agent, and the
    directory where nothing else does. No two are equal but those of one directory that agree in everything."""
    facts = [_facts(one) for one in shown]
    pairs = [(one.base.agent, one.base.env) for one in shown]
    parts = [i for i in (0, 1) if len({pair[i] for pair in pairs}) > 1]
    several, found = len({one.directory for one in shown}) > 1, []
    for one, mine, pair in zip(shown, facts, pairs, strict=True):
        alike = [other for other, its in zip(facts, pairs, strict=True) if its == pair]
        names = [name for name, value in mine.items() if any(other.get(name, value) != value for other in alike)]
        settings = {name: mine[name] for name in names} if len(names) <= MOST else one.setting
        words = [str(pair[i]) for i in parts] + [search_space.text(settings)]
        words += [one.directory.name] if several and len(names) > MOST else []
        found.append(" ".join(filter(None, words)))
    count = Counter(found)
    told = [x if count[x] == 1 else f"{x} {one.directory}".strip() for x, one in zip(found, shown, strict=True)]
    return [x or str(pair[0]) for x, pair in zip(found if len(shown) == 1 else told, pairs, strict=True)]


def _facts(one: Shown) -> dict[str, Any]:
    """Every setting, those that a sweep varies first."""
    base = one.base.to_json()
    params = {ENV + name: value for name, value in base["env_params"].items()}
    rest = {"total_steps": base["total_steps"], **base["config"], **base["hparams"], **params, **base["env_kwargs"]}
    known = {**one.setting, **{name: value for name, value in rest.items() if name not in one.setting}}
    return {name: tuple(x) if isinstance(x, list) else x for name, x in known.items()}


def title(shown: Sequence[Shown]) -> str:
    """What they have in common: agent and environment, as far as they are the same."""
    agents, envs = {one.base.agent for one in shown}, {one.base.env for one in shown}
    words = [str(*agents)] if len(agents) == 1 else []
    return " on ".join([*words, *([str(*envs)] if len(envs) == 1 else [])])
