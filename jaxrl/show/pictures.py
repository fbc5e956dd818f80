"""The pictures that training leaves in its directory."""

from __future__ import annotations

from pathlib import Path

from jaxrl.core import trees
from jaxrl.core.loop import RENDER, stream
from jaxrl.runs.directory import CURVE, CURVES, EFFECTS, GIF, TRIALS, VALUES
from jaxrl.show import plot, render, sweep_plot, tune_plot, value_map
from jaxrl.sweeps.result import RunResult, SweepResult
from jaxrl.tuning.directory import TuningResult
from jaxrl.tuning.population import PopulationResult
from jaxrl.tuning.studies import TuningPlan


def draw(result: RunResult | SweepResult, folder: Path) -> None:
    """A run's learning curve, its first policy on film, and its action values where observations are discrete.

    Of a sweep: learning curves, and the effects of its settings.
    """
    if isinstance(result, SweepResult):
        sweep_plot.curves(result, folder / CURVES)
        sweep_plot.effects(result, folder / EFFECTS)
        return
    plot.compare([sweep_plot.best_curve(result.sweep)], [folder], folder / CURVE)
    trainer, states = result
    first = trees.member(states, 0)
    render.policy_gif(trainer, first, stream(first.key, RENDER), folder / GIF)
    table = value_map.q_table(trainer, first)
    if table is not None:
        value_map.picture(trainer.env.spec, table, folder / VALUES)


def draw_tuning(plan: TuningPlan, found: TuningResult, folder: Path) -> None:
    """A tuning's trials, or a population's rounds."""
    title = f"{plan.base.agent} on {plan.base.env}, {plan.settings.method}: "
    if isinstance(found, PopulationResult):
        title += f"{plan.settings.population} members, {plan.settings.rounds} rounds"
        return tune_plot.population(found, plan.axes, folder / TRIALS, title)
    best, before = (None, None) if found.confirmation is None else found.confirmation.final_return.mean(1).tolist()
    tune_plot.trials(found.trials, plan.axes, before, folder / TRIALS, f"{title}{len(found.trials)} trials", best)
