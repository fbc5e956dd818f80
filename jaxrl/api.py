"""The library's front door: train, sweep, tune and load as the command line does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

from jaxrl.core import trees
from jaxrl.core.errors import InputError, unknown
from jaxrl.core.loop import Trainer
from jaxrl.core.policy import Policy
from jaxrl.core.settings import check
from jaxrl.core.types import TrainState
from jaxrl.datasets.files import Format
from jaxrl.experiment import contract, search_space
from jaxrl.experiment.contract import Report
from jaxrl.experiment.experiment import Experiment, experiment_of
from jaxrl.runs import callbacks as callback_room
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import reading
from jaxrl.sweeps.result import RunResult, SweepResult
from jaxrl.sweeps.waves import Options
from jaxrl.transfer import record as recording
from jaxrl.tuning import directory as tunings


def train(
    experiment: Any,
    env: Any = None,
    *,
    seeds: int = 1,
    seed: int = 0,
    eval_every: int = 0,
    out: str | Path | None = None,
    callbacks: Sequence[Any] = (),
    overwrite: bool = False,
    progress: bool | None = None,
    **kwargs: Any,
) -> RunResult:
    """Train seeds of one experiment.

    experiment: an Experiment; or an agent, with `env` and the keywords of `Experiment` (total_steps, config, hparams, ...).
    seeds: how many, from `seed` on. eval_every: environment steps between greedy evaluations in training, 0 for none.
    out: a new directory to write, which `jaxrl resume` goes on with; None keeps all in memory.
    callbacks: objects that are told between chunks of training what is new (see `jaxrl.Callback`), or their names
    ("stop_at_return(475)", "keep_best", "path/file.py:Name(3)"); names are recorded, and take part in a resume too.
    overwrite: replace what jaxrl wrote in `out` before; else an `out` that exists is refused.
    progress: without `out`, whether to show how far training is; None: on a terminal. With `out` it is shown.

    Raises ValueError before any compile.
    """
    base = _experiment("train", experiment, env, kwargs)
    names, objects = _parted(callbacks)
    plan = plans.make_run(base, seeds, seed, eval_every=eval_every, callback_names=names)
    callback_room.check(objects, eval_every)
    if out is None:
        return sweeps.in_memory(plan, objects, progress).waves[0]
    from jaxrl.show import pictures  # draws with matplotlib, which takes a while to import

    sweeps.train(plan, Path(out), Options(callbacks=tuple(objects)), overwrite, pictures.draw)
    return cast(RunResult, reading.load(out))


def sweep(
    experiment: Any,
    env: Any = None,
    *,
    grid: Mapping[str, Any] | None = None,
    random: Mapping[str, Any] | None = None,
    samples: int = 0,
    seeds: int = 8,
    seed: int = 0,
    eval_every: int = 0,
    memory_limit: int | None = None,
    out: str | Path | None = None,
    callbacks: Sequence[Any] = (),
    overwrite: bool = False,
    progress: bool | None = None,
    engine: str = "local",
    **kwargs: Any,
) -> SweepResult:
    """Train configurations × seeds: one program for each static configuration, its members vmapped over all devices.

    experiment, env, kwargs, eval_every, callbacks, progress: as in `train`; callbacks are told of each wave in turn.
    grid: {setting: values}; every combination is a configuration. random: {setting: values, or "log:LOW,HIGH", or
    "uniform:LOW,HIGH"}, drawn `samples` times (with a grid: at each of its points). A setting is a field of Config or
    HParams, or `env.NAME`, a traced parameter of the environment. seeds: how many, from `seed` on, the same for every
    configuration. memory_limit: bytes; default: what is free. out: a directory that the sweep is written to, and can be
    resumed from; None keeps all in memory. engine: "local", this process; with `out` also "ray", the workers of the running
    Ray cluster (extra: ray).

    A member's numbers are those of the same configuration and seed in any other sweep or run of several seeds, bit for bit
    on CPU. Raises ValueError before any compile.
    """
    base = _experiment("sweep", experiment, env, kwargs)
    configurations, asked = search_space.configurations(base, grid or {}, random or {}, samples, seed)
    check("engine", engine, Literal["local", "ray"])
    names, objects = _parted(callbacks)
    callback_room.check(objects, eval_every)
    if out is None and engine == "ray":
        raise InputError("engine = 'ray' needs out, a directory that all workers see")
    if out is not None:
        base.check_rebuildable()
    options: dict[str, Any] = {"eval_every": eval_every, "memory_limit": memory_limit, "callback_names": names}
    plan = plans.make(base, configurations, seeds, seed, asked, fit=engine == "local", **options)
    if out is None:
        return sweeps.in_memory(plan, objects, progress)
    from jaxrl.show import pictures

    sweeps.train(plan, Path(out), Options(callbacks=tuple(objects)), overwrite, pictures.draw, engine=engine)
    return cast(SweepResult, reading.load(out))


def tune(
    experiment: Any,
    env: Any = None,
    *,
    search: Mapping[str, Any] | None = None,
    storage: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    **kwargs: Any,
) -> tunings.TuningResult:
    """Search for better settings of an experiment.

    experiment, env: as in `train`. search: {setting: "log:LOW,HIGH", "uniform:LOW,HIGH" or values}; default: the agent's own
    in presets/search.toml. storage: an Optuna storage's URL (`sqlite:///study.db`), where a study of the same work is
    continued; None keeps it in memory, or in `out`. kwargs: fields of `Tuning` (trials, parallel, seeds, method, pruner);
    the rest as in `train`.

    Returns a TuneResult, for method "pbt" a PopulationResult. Raises ValueError before any compile.
    """
    settings = {name: kwargs.pop(name) for name in tunings.SETTINGS if name in kwargs}
    base = _experiment("tune", experiment, env, kwargs, tunings.SETTINGS)
    plan = tunings.make_plan(base, search, settings, storage)
    if out is None:
        return tunings.in_memory(plan)
    from jaxrl.show import pictures

    return tunings.train(plan, Path(out), overwrite=overwrite, draw=pictures.draw_tuning)[1]


def load(folder: str | PathLike[str], *, best: bool = False, anyway: bool = False) -> Any:
    """What was trained into a directory: a RunResult or a SweepResult; of a tuning its confirmation; of a population itself.

    `trainer, states = jaxrl.load(DIR)` gives the policies, leaves [seeds, ...]; of a sweep those of its best configuration.
    best: the policies that the callback keep_best kept. anyway: although an own file has changed since.

    Raises ValueError for a directory that is none of ours or damaged, and for a sweep that is not finished; a run without a
    checkpoint loads, and raises where its policies are asked for.
    """
    return tunings.load(Path(folder), best=best, anyway=anyway)


def policy(source: Any, *, greedy: bool = True, member: int = 0, seed: int = 0) -> Policy:
    """A trained policy on the host: `action, memory = policy(obs, memory)`; see `Policy`.

    source: a directory; a result, of which `member` is taken (of a sweep that seed of its best configuration); or
    (trainer, state), the state of one member. greedy: the evaluation policy, else the behaviour policy, whose draws follow
    from `seed`. Raises ValueError.
    """
    return Policy(
        *_one_member(load(source) if isinstance(source, str | PathLike) else source, member), greedy=greedy, seed=seed
    )


def record(
    source: Any,
    *,
    out: str | PathLike[str],
    steps: int | None = None,
    episodes: int | None = None,
    policy: str = "greedy",
    member: int = 0,
    seed: int = 0,
    format: Format = "npz",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Record whole episodes of a trained policy as a dataset: {"out", "steps", "episodes", "mean_return"} of it.

    source, member: as in `policy`. out: the dataset's folder, new or empty, which `jaxrl.datasets.read` reads. steps: at
    least so many, up to the end of an episode; or episodes: exactly so many. policy: "greedy", the evaluation policy;
    "behaviour", as at the end of training; "epsilon=0.1", greedy but for a tenth of the actions, drawn at random. seed: the
    same gives the same bytes. format: "npz", or "minari" (extra: minari). overwrite: replace a dataset that lies there.

    Raises ValueError before anything is written.
    """
    recording.check_settings(steps, episodes, policy)
    found = load(source) if isinstance(source, str | PathLike) else source
    trainer, state = _one_member(found, member)
    known: dict[str, Any] = {}
    if not isinstance(found, tuple):
        experiment = found.plan.base if isinstance(found, SweepResult) else found.wave.experiment
        known = {"experiment": experiment, "trained": (found.seeds[member],)}
    asked: dict[str, Any] = {"steps": steps, "episodes": episodes, "policy": policy, "seed": seed}
    return recording.record(trainer, state, Path(out), **asked, format=format, overwrite=overwrite, **known)


def check_env(
    env: Any, *, env_kwargs: Mapping[str, Any] | None = None, env_params: Mapping[str, Any] | None = None
) -> Report:
    """Try an environment: does it do what jaxrl relies on? `print(jaxrl.check_env(my_env))` shows what was found.

    env, env_kwargs, env_params: as in `Experiment`. Tried are 8 copies for 128 random steps: structure, shapes and dtypes of
    all that `reset` and `step` give, bounds of observations, finite numbers, purity (the same key, the same result), names
    of metrics, `vmap` and `scan`.

    Raises ValueError for the first fault: which function and field, what was expected, what came, and what to do.
    """
    return Report("environment", tuple(contract.env_lines(env, env_kwargs, env_params)))


def check_agent(
    agent: Any, env: Any = None, *, config: Any = None, hparams: Any = None, env_kwargs: Mapping[str, Any] | None = None
) -> Report:
    """Try an agent: does it do what jaxrl relies on? `print(jaxrl.check_agent(my_agent, my_env))` shows what was found.

    agent, config, hparams, env_kwargs: as in `Experiment`. env: where; None takes the first of a few that it accepts. Tried
    are some iterations of two members: shapes and dtypes of what `act`, `greedy`, `learn` and `memory` give, a state that
    keeps its structure, finite numbers, purity, `vmap` over hparams.

    Raises ValueError for the first fault, as `check_env` does.
    """
    return Report("agent", tuple(contract.agent_lines(agent, env, config, hparams, env_kwargs)))


def _one_member(found: Any, member: int) -> tuple[Trainer, TrainState]:
    """The trainer and the state of one member of a result; or (trainer, state) itself. Raises InputError."""
    words = "a policy is made of a directory, a result or (trainer, state)"
    if not isinstance(found, tuple):
        if not hasattr(found, "agent"):
            raise InputError(f"{words}, not {type(found).__name__}")
        trainer, states = found
        members = len(states.iteration)
        if not 0 <= member < members:
            raise InputError(f"member = {member} is out of range: {found!r} has {members}")
        return trainer, trees.member(states, member)
    if len(found) != 2:
        raise InputError(words)
    return found


def _experiment(what: str, experiment: Any, env: Any, kwargs: Mapping[str, Any], more: Sequence[str] = ()) -> Experiment:
    """What to train. Raises ValueError naming a keyword that there is not, beside `more`."""
    known = [field.name for field in dataclasses.fields(Experiment) if field.init]
    for name in kwargs:
        if name not in known:
            raise unknown(f"setting of {what}", name, [*known, *more])
    return experiment_of(experiment, env, **kwargs)


def _parted(callbacks: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """Names, which are recorded, and objects, which are not."""
    return [c for c in callbacks if isinstance(c, str)], [c for c in callbacks if not isinstance(c, str)]
