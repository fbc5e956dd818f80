"""Action values of a run whose observations are discrete, as a table in the terminal and as a picture.

Of one member: a mean over seeds would belong to no policy. Where observations lie on a grid (`EnvSpec.grid`), the picture is
the grid: max_a Q by colour and greedy actions as arrows; elsewhere it is Q itself, states by actions.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import EnvSpec, Grid, TrainState
from jaxrl.sweeps.result import RunResult

TABLE_ROWS = 64  # of a printed table
PICTURED = 100  # states of a picture without a grid
DIRECTIONS = {(-1, 0): "up", (0, 1): "right", (1, 0): "down", (0, -1): "left"}
GREY, INK, PAPER = "#d5d9de", "#1f2933", "#ffffff"


def q_table(trainer: Trainer, state: TrainState) -> np.ndarray | None:
    """Q(s, a) of one member's state, float32 [S, A]; None where the agent has no action values, or states no numbers."""
    space = trainer.env.spec.observation_space
    if trainer.agent.values is None or not isinstance(space, Discrete):
        return None
    values = jax.jit(trainer.agent.values)(state.hparams, state.agent, jnp.arange(space.n, dtype=space.dtype))
    return np.asarray(values)


def of_run(result: RunResult) -> tuple[EnvSpec, np.ndarray] | None:
    """What `picture` needs, of a run's first seed; None where there is no table, or, with a warning, none can be read."""
    try:
        trainer, state = result.agent(0)
    except InputError as error:  # a curve needs less: it is drawn of a run without a checkpoint too
        warnings.warn(f"action values are not drawn: {error}", stacklevel=2)
        return None
    q = q_table(trainer, state)
    return None if q is None else (trainer.env.spec, q)


def greedy(q: np.ndarray) -> np.ndarray:
    """Which actions are best, ties included: bool [S, A]. A difference in a float32's last digits is none."""
    best = q.max(-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a diverged member's infinities
        return (q == best) | (q >= best - 1e-6 * np.abs(best))


def text(spec: EnvSpec, q: np.ndarray) -> str:
    """The table, a line a state and a column an action; * marks the greedy ones."""
    grid, best = spec.grid, greedy(q)
    numbers = [[f"{x:.4g}{'*' if b else ' '}" for x, b in zip(*row, strict=True)] for row in zip(q, best, strict=True)]
    names = [f"{name} " for name in action_names(grid, q.shape[-1])]
    width = max(map(len, [*names, *(x for row in numbers[:TABLE_ROWS] for x in row)]))
    place = f"{'row':>5}{'column':>8}" if grid else ""
    lines = [f"{'state':>6}{place}" + "".join(f"{name:>{width + 2}}" for name in names)]
    for s, row in enumerate(numbers[:TABLE_ROWS]):
        place = "{:>5}{:>8}".format(*divmod(s, grid.columns)) if grid else ""
        lines.append(f"{s:>6}{place}" + "".join(f"{x:>{width + 2}}" for x in row))
    if len(q) > TABLE_ROWS:
        lines.append(f"... {len(q) - TABLE_ROWS:,} more of {len(q):,} states left out")
    return "\n".join(lines)


def action_names(grid: Grid | None, num_actions: int) -> list[str]:
    """How actions are called: by their direction on a grid, else by number."""
    moves = grid.moves if grid else ()
    return [DIRECTIONS.get(moves[a], f"action {a}") if a < len(moves) else f"action {a}" for a in range(num_actions)]


def picture(spec: EnvSpec, q: np.ndarray, out: Path) -> None:
    """Draw the values into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig = _draw_grid(plt, spec.id, spec.grid, q) if spec.grid else _draw_table(plt, spec.id, q)
    fig.savefig(out, dpi=130)
    plt.close(fig)


def _draw_grid(plt: Any, name: str, grid: Grid, q: np.ndarray) -> Any:
    """max_a Q of every cell, its tile's letter, and arrows for the greedy actions.

    A cell without a preference stays grey: it ends an episode, or was never left, and its value means nothing.
    """
    best = greedy(q)
    blank = np.asarray(best.all(-1))
    values = np.where(blank, np.nan, _finite(q.max(-1)))
    side = min(0.85, 11 / grid.columns, 9 / grid.rows)  # of a cell, in inches
    fig, ax = plt.subplots(figsize=(side * grid.columns + 1.3, side * grid.rows + 0.6), layout="constrained")
    image = ax.imshow(values.reshape(grid.rows, grid.columns), cmap=_colours(plt))
    _colour_bar(fig, ax, image, "max Q(s, a)")
    ax.set(title=f"{name}: values and greedy actions", xticks=[], yticks=[])
    ax.set_xticks(np.arange(grid.columns - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(grid.rows - 1) + 0.5, minor=True)
    ax.grid(which="minor", color=PAPER, linewidth=0.8)
    ax.tick_params(which="both", length=0)
    for s, (row, column) in enumerate(np.ndindex(grid.rows, grid.columns)):
        ink = INK if blank[s] else _legible(image, values[s])
        if grid.tiles[s : s + 1].strip():
            at = (column - 0.42, row - 0.42)
            ax.text(*at, grid.tiles[s], color=ink, fontsize=11 * side, va="top", ha="left", weight="bold")
        if blank[s]:
            continue
        if side > 0.5:
            ax.text(column + 0.44, row + 0.44, f"{values[s]:.3g}", color=ink, fontsize=8.5 * side, va="bottom", ha="right")
        _arrows(ax, (row, column), [grid.moves[a] for a in np.flatnonzero(best[s, : len(grid.moves)])], ink, side)
    return fig


def _arrows(ax: Any, place: tuple[int, int], moves: list[tuple[int, int]], ink: str, side: float) -> None:
    """One arrow across the middle of a cell, or several out of it."""
    row, column = place
    tail, head = (-0.18, 0.22) if len(moves) == 1 else (0.0, 0.3)
    style = {"arrowstyle": "-|>", "color": ink, "lw": 1.6 * side, "mutation_scale": 13 * side, "shrinkA": 0, "shrinkB": 0}
    for down, right in moves:
        start, end = ((column + x * right, row + x * down) for x in (tail, head))
        ax.annotate("", end, start, arrowprops=style)


def _draw_table(plt: Any, name: str, q: np.ndarray) -> Any:
    """Q with states along the horizontal axis and actions along the vertical one, a dot on the greedy ones."""
    shown = q[:PICTURED]
    states, actions = shown.shape
    side = min(0.5, 11 / states, 9 / actions)
    fig, ax = plt.subplots(figsize=(max(side * states, 3.2) + 1.6, side * actions + 1.1), layout="constrained")
    image = ax.imshow(_finite(shown).T, cmap=_colours(plt))
    _colour_bar(fig, ax, image, "Q(s, a)")
    best = greedy(shown)
    for s, a in zip(*np.nonzero(best & ~best.all(-1, keepdims=True)), strict=True):
        ax.plot(s, a, "o", color=_legible(image, shown[s, a]), markersize=8 * side)
    more = f", the first {states} of {len(q)} states" if len(q) > states else ""
    ax.set(title=f"{name}: values, • greedy{more}", xlabel="state", ylabel="action")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_yticks(range(actions) if actions <= 20 else range(0, actions, actions // 10))
    return fig


def _finite(values: np.ndarray) -> np.ndarray:
    """NaN, drawn grey, for a diverged member's infinities: a scale up to them would show nothing else."""
    return np.where(np.isfinite(values), values, np.nan)


def _colours(plt: Any) -> Any:
    return plt.get_cmap("viridis").with_extremes(bad=GREY)


def _colour_bar(fig: Any, ax: Any, image: Any, label: str) -> None:
    """A bar as high as the picture, whose scale survives a table of nothing but NaN or of one value."""
    low, high = image.get_clim()
    if low is np.ma.masked or not np.isfinite([low, high]).all():
        low, high = 0.0, 0.0
    image.set_clim(low, high if high > low else low + 1.0)
    fig.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.03, 1)), label=label)


def _legible(image: Any, value: float) -> str:
    """Ink or paper, whichever stands out from the colour of `value`."""
    red, green, blue, _ = image.cmap(image.norm(value))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else PAPER
