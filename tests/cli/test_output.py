"""cli/output.py: what a command says at its end."""

from jaxrl.cli import output


def test_steps_are_those_of_each_member_and_the_speed_that_of_all():
    """As the progress counts them; in all where members took unequal numbers."""
    summary = {"env_steps": 8000, "run_s": 2.0, "steps_per_s": 4000, "compile_s": 1.25}
    assert output._pace(summary, 4) == "2,000 steps each in 2.0 s (4,000 steps/s in all), compiled in 1.2 s"
    assert output._pace(summary, 3) == "8,000 steps in 2.0 s (4,000 steps/s in all), compiled in 1.2 s"
    assert output._pace(summary, 1) == "8,000 steps in 2.0 s (4,000 steps/s), compiled in 1.2 s"


def test_the_human_normalised_score_is_said_where_there_is_one(capsys):
    final = {"mean": 14.6, "iqm": 14.6, "ci_low": None, "ci_high": None}
    summary = {"agent": "dqn", "env": "ale:Pong", "seeds": 1, "final_return": final, "diverged": [], "out": "nowhere"}
    summary |= {"env_steps": 8, "run_s": 2.0, "steps_per_s": 4, "compile_s": 1.0}
    output.finish(lambda: summary | {"human_normalized": 1.0}, as_json=False)
    assert "human-normalised score 1.00\n" in capsys.readouterr().out
    output.finish(lambda: summary, as_json=False)
    assert "score" not in capsys.readouterr().out
