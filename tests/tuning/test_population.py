"""Population-based training: what it finds, through what it goes on, the same bits everywhere."""

import numpy as np
import pytest

import jaxrl
from jaxrl.experiment.experiment import resolve
from jaxrl.runs import files
from jaxrl.tuning import directory as tunings
from jaxrl.tuning import pbt, population
from tests.same_bits import on_devices, population_of_eight
from tests.small import assert_trees_equal
from tests.toys import Level, level_env

SEARCH = {"level": "log:0.1,40"}
SETTINGS = {"method": "pbt", "population": 10, "rounds": 40, "seed": 7}


@pytest.fixture(scope="module")
def found():
    return jaxrl.tune(Level, level_env(), search=SEARCH, total_steps=20_000, **SETTINGS)


def test_it_finds_the_best_level(found):
    """The return is -(level - 3)²: 0 at best, -289 at the default."""
    assert abs(found.best["level"] - 3) < 0.5
    assert found.final_return.max() == found.final_return[found.best_member] > -0.25
    assert found.rounds.score.shape == found.rounds.parent.shape == (40, 10)
    assert found.env_steps == 10 * found.trainer.total_steps >= 10 * 20_000


def test_scores_are_those_of_the_levels_in_use(found):
    """Round r is played with the levels after round r - 1."""
    levels = np.asarray(found.rounds.hparams["level"])
    np.testing.assert_allclose(found.rounds.score[1:], -((levels[:-1] - 3) ** 2), rtol=1e-4, atol=1e-4)
    assert found.schedule["level"][-1] == pytest.approx(levels[-2][pbt.lineage(found.rounds, found.best_member)[-1]])


def test_members_that_diverge_are_replaced_and_do_not_count():
    """Levels above 50 give a NaN loss with a finite return: from the second round on none is left, and none is chosen."""
    words = {"method": "pbt", "population": 10, "rounds": 4, "seed": 7, "search": {"level": "uniform:45,54"}}
    found = jaxrl.tune(Level, level_env(), total_steps=2000, **words)
    assert found.rounds.diverged[0].sum() > 2
    for r in range(4):
        lost = np.flatnonzero(found.rounds.diverged[r])
        assert not np.isin(found.rounds.parent[r], lost).any()
    np.testing.assert_array_equal(found.rounds.diverged[1:], found.rounds.hparams["level"][:-1] > 50)
    assert found.best["level"] < 50 and np.isfinite(found.final_return).all()
    words = {**words, "rounds": 1, "search": {"level": "uniform:55,60"}}
    with pytest.raises(ValueError, match="every member of the population .10. diverged"):
        jaxrl.tune(Level, level_env(), total_steps=2000, **words)


def test_a_stopped_population_goes_on_to_the_same_bits(found, tmp_path, monkeypatch):
    """Stopped in round 13 with the last checkpoint at 10, then continued from its directory."""
    plan = tunings.make_plan(resolve(Level, level_env(), total_steps=20_000), SEARCH, SETTINGS, None)
    add = population._Rounds.add

    def stops(self, row):
        if len(self.rounds) == 12:
            raise KeyboardInterrupt
        add(self, row)

    def due(self, done):
        self._due = done == 10
        return self._due

    monkeypatch.setattr(population._Rounds, "add", stops)
    monkeypatch.setattr(files.Files, "wants_state", due)
    with pytest.raises(KeyboardInterrupt):
        population.train(plan, tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoints/[0-9]*")] == ["10.safetensors"]
    monkeypatch.setattr(population._Rounds, "add", add)
    again = population.train(plan, tmp_path)
    assert_trees_equal(again.states, found.states)
    assert_trees_equal(again.rounds, found.rounds)
    assert len((tmp_path / "rounds.jsonl").read_text().splitlines()) == 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"search": {"level": [1.0, 2.0]}}, "level: pbt perturbs ranges"),
        ({"search": {"env.target": "uniform:0,1"}}, "env.target: pbt perturbs ranges"),
        ({"population": 1}, "population = 1 is out of range"),
        ({"rounds": 1000}, "rounds = 1000 is out of range: training has 40 iterations"),
    ],
)
def test_bad_input(words, message):
    with pytest.raises(ValueError) as refused:
        jaxrl.tune(Level, level_env(), total_steps=20_000, **({"search": SEARCH} | SETTINGS | words))
    assert message in str(refused.value)


@pytest.mark.exact
@pytest.mark.release
def test_one_two_and_eight_devices_give_the_same_bits():
    found = on_devices(population_of_eight, 1, 8)
    assert [devices for _, devices in found] == [2, 1, 4]
    assert len({digest for digest, _ in found}) == 1
