"""Films of policies: the best member of a run or a sweep, the median and the worst, by their final return."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from jaxrl.core import loop
from jaxrl.core.types import Env
from jaxrl.show import render
from jaxrl.sweeps.result import SweepResult

FRAMES = 120  # of a film, at most


def of(result: SweepResult) -> list[dict[str, Any]]:
    """Each policy's film, frames as data URIs; none where episodes cannot be recorded (a VecEnv)."""
    found = []
    for which, (c, s) in chosen(result.final_return).items():
        trainer, state = result.agent(c, s)
        if not isinstance(trainer.env, Env):
            return []
        frames, duration = render.film(trainer, state, loop.stream(state.key, loop.RENDER), FRAMES)
        about = {"which": which, "config": c, "seed": result.seeds[s], "final": round(float(result.final_return[c, s]), 4)}
        found.append(about | {"frames": [_uri(frame) for frame in frames], "duration": duration})
    return found


def chosen(final_return: np.ndarray) -> dict[str, tuple[int, int]]:
    """Which of the members [C, S]; those without a finite return are none of them, and none is chosen twice."""
    order = [int(i) for i in np.argsort(-final_return, axis=None, kind="stable") if np.isfinite(final_return.flat[i])]
    if not order:
        return {}
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    if len(order) < 3:
        places = {"best": order[0]} if len(order) == 1 else {"best": order[0], "worst": order[1]}
    return {which: divmod(place, final_return.shape[1]) for which, place in places.items()}


def _uri(frame: Image.Image) -> str:
    packed = io.BytesIO()
    frame.save(packed, "WEBP", lossless=True, method=2)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()
