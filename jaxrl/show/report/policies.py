"""Films of policies: the best member of a run or a sweep, the median and the worst, by their final return."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxrl.core import loop
from jaxrl.core.loop import Trainer
from jaxrl.core.types import Env, TrainState
from jaxrl.show import render, value_map
from jaxrl.show.configurations import Configuration

FRAMES = 120  # of a film, at most


def of(configurations: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Each policy's film, frames as data URIs, and its action values where there is a table of them.

    None where episodes cannot be recorded (a VecEnv).
    """
    shown = []
    for which, (c, i) in chosen([found.final_return for found in configurations]).items():
        found = configurations[c]
        trainer, state = found.agent(i)
        if not isinstance(trainer.env, Env):
            return []
        film = render.film(trainer, state, loop.stream(state.key, loop.RENDER), FRAMES)
        about = {"which": which, "config": found.number, "seed": found.seeds[i]}
        about |= {"final": round(float(found.final_return[i]), 4), "durations": film.durations}
        shown.append(about | {"frames": [_frame(frame) for frame in film.frames], "values": _values(trainer, state)})
    return shown


def _values(trainer: Trainer, state: TrainState) -> str | None:
    """The picture of its action values."""
    table = value_map.of(trainer, state)
    if table is None:
        return None
    packed = io.BytesIO()
    value_map.picture(*table, packed)
    return uri(packed.getvalue(), "png")


def chosen(final_returns: Sequence[np.ndarray]) -> dict[str, tuple[int, int]]:
    """Which (configuration, seed), by final returns [S] of each configuration; those without a finite return are none of
    them, and none is chosen twice."""
    places = [(c, i) for c, returns in enumerate(final_returns) for i in range(len(returns)) if np.isfinite(returns[i])]
    order = sorted(places, key=lambda place: -final_returns[place[0]][place[1]])
    if len(order) < 3:
        return dict(zip(("best", "worst"), order, strict=False))
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def _frame(frame: Image.Image) -> str:
    packed = io.BytesIO()
    frame.save(packed, "WEBP", lossless=True, method=2)
    return uri(packed.getvalue(), "webp")


def uri(data: bytes, kind: str) -> str:
    """An image as the page holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
