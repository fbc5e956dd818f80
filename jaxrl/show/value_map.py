"""Action values of a run whose observations are discrete, as a table in the terminal and as a picture.

Of one member: a mean over seeds would belong to no policy. Where observations lie on a grid (`EnvSpec.grid`), the picture is
the grid: max_a Q by colour and greedy actions as arrows; elsewhere it is Q itself, states by actions.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.loop import Trainer
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import EnvSpec, Grid, TrainState
from jaxrl.show import plot, tiles

TABLE_ROWS = 64  # of a printed table
PICTURED = 100  # states of a picture without a grid
GREY = "#d5d9de"  # of what has no value


def q_table(trainer: Trainer, state: TrainState) -> np.ndarray | None:
    """Q(s, a) of one member's state, float32 [S, A]; None where the agent has no action values, or states no numbers."""
    space = trainer.env.spec.observation_space
    if trainer.agent.values is None or not isinstance(space, Discrete):
        return None
    values = jax.jit(trainer.agent.values)(state.hparams, state.agent, jnp.arange(space.n, dtype=space.dtype))
    return np.asarray(values)


def of(trainer: Trainer, state: TrainState) -> tuple[EnvSpec, np.ndarray] | None:
    """What `picture` needs; None where there is no table."""
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
    names = [f"{name} " for name in tiles.action_names(grid, q.shape[-1])]
    width = max(map(len, [*names, *(x for row in numbers[:TABLE_ROWS] for x in row)]))
    place = f"{'row':>5}{'column':>8}" if grid else ""
    lines = [f"{'state':>6}{place}" + "".join(f"{name:>{width + 2}}" for name in names)]
    for s, row in enumerate(numbers[:TABLE_ROWS]):
        place = "{:>5}{:>8}".format(*divmod(s, grid.columns)) if grid else ""
        lines.append(f"{s:>6}{place}" + "".join(f"{x:>{width + 2}}" for x in row))
    if len(q) > TABLE_ROWS:
        lines.append(f"... {len(q) - TABLE_ROWS:,} more of {len(q):,} states left out")
    return "\n".join(lines)


def picture(spec: EnvSpec, q: np.ndarray, out: Path | IO[bytes]) -> None:
    """Draw the values into a PNG."""
    plot.save(_draw_grid(spec.id, spec.grid, q) if spec.grid else _draw_table(spec.id, q), out)


def _draw_grid(name: str, grid: Grid, q: np.ndarray) -> Any:
    """max_a Q of every cell, and arrows for the greedy actions, over the tiles' letters.

    A cell without a preference shows its tile: it ends an episode, or was never left, and its value means nothing.
    """
    best = greedy(q)
    blank = np.asarray(best.all(-1))
    values = np.where(blank, np.nan, _finite(q.max(-1)))
    side = min(0.85, 11 / grid.columns, 9 / grid.rows)  # of a cell, in inches
    figure = {"figsize": (side * grid.columns + 1.3, side * grid.rows + 0.6), "layout": "constrained"}
    fig, ax = plot.pyplot().subplots(**figure)
    scale = _colour_bar(fig, ax, values, "max Q(s, a)")
    faces = scale.to_rgba(values)[:, :3]
    shown = [ground if none else face for ground, none, face in zip(tiles.colours(grid, GREY), blank, faces, strict=True)]
    tiles.draw(ax, grid, shown, side)
    ax.set_title(f"{name}: values and greedy actions")
    for s in np.flatnonzero(~blank):
        row, column = divmod(int(s), grid.columns)
        ink = tiles.legible(faces[s])
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


def _draw_table(name: str, q: np.ndarray) -> Any:
    """Q with states along the horizontal axis and actions along the vertical one, a dot on the greedy ones."""
    shown = q[:PICTURED]
    states, actions = shown.shape
    side = min(0.5, 11 / states, 9 / actions)
    figure = {"figsize": (max(side * states, 3.2) + 1.6, side * actions + 1.1), "layout": "constrained"}
    fig, ax = plot.pyplot().subplots(**figure)
    scale = _colour_bar(fig, ax, _finite(shown), "Q(s, a)")
    faces = scale.to_rgba(_finite(shown))[..., :3]
    ax.imshow(faces.swapaxes(0, 1))
    best = greedy(shown)
    for s, a in zip(*np.nonzero(best & ~best.all(-1, keepdims=True)), strict=True):
        ax.plot(s, a, "o", color=tiles.legible(faces[s, a]), markersize=8 * side)
    more = f", the first {states} of {len(q)} states" if len(q) > states else ""
    ax.set(title=f"{name}: values, • greedy{more}", xlabel="state", ylabel="action")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_yticks(range(actions) if actions <= 20 else range(0, actions, actions // 10))
    return fig


def _finite(values: np.ndarray) -> np.ndarray:
    """NaN, drawn grey, for a diverged member's infinities: a scale up to them would show nothing else."""
    return np.where(np.isfinite(values), values, np.nan)


def _colour_bar(fig: Any, ax: Any, values: np.ndarray, label: str) -> Any:
    """What turns values into colours, with a bar as high as the picture; for nothing but NaN, or one value, too."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    pyplot = plot.pyplot()
    colours = pyplot.get_cmap("viridis").with_extremes(bad=GREY)
    scale = pyplot.cm.ScalarMappable(pyplot.Normalize(low, high if high > low else low + 1.0), colours)
    fig.colorbar(scale, cax=ax.inset_axes((1.02, 0, 0.03, 1)), label=label)
    return scale
