"""The command line: help, lists, results, and one line for every kind of bad input."""

import json
import subprocess
import sys

import pytest

from jaxrl.cli import main as cli
from jaxrl.experiment import lookup, registry

pytestmark = pytest.mark.usefixtures("keep_platform")


def run(capsys, *words):
    code = cli.main([str(w) for w in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run, made by the real command."""
    out = tmp_path_factory.mktemp("cli") / "run"
    words = ["train", "q_learning", "--env", "RandomGame", "--seeds", "2", "--total-steps", "2000", "--out", out, "--json"]
    done = subprocess.run([sys.executable, "-m", "jaxrl", *map(str, words)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return out, done


def test_train_prints_one_json_object_last_and_progress_elsewhere(trained):
    out, done = trained
    lines = done.stdout.splitlines()
    result = json.loads(lines[-1])
    assert len(lines) == 1
    assert "RandomGame q_learning" in done.stderr and "steps" in done.stderr
    names = "agent env seeds env_steps final_return compile_s run_s steps_per_s out".split()
    assert set(names) <= set(result)
    assert set(result["final_return"]) == {"mean", "iqm", "ci_low", "ci_high", "per_seed"}
    assert (result["agent"], result["env"], result["seeds"], result["env_steps"]) == (
        "q_learning",
        "RandomGame",
        2,
        4096,
    )  # 2 × 4 × 512
    assert len(result["final_return"]["per_seed"]) == 2
    assert abs(result["steps_per_s"] * result["run_s"] / result["env_steps"] - 1) < 0.02
    assert result["out"] == str(out)


def test_eval_plot_and_gif(trained, capsys, tmp_path):
    out, _ = trained
    code, printed, _ = run(capsys, "eval", out, "--episodes", 5, "--json", "--gif", tmp_path / "a.gif")
    result = json.loads(printed.splitlines()[-1])
    assert code == 0 and (tmp_path / "a.gif").read_bytes()[:6] == b"GIF89a" and len(printed.splitlines()) == 1
    assert [len(r) for r in result["returns"]] == [len(r) for r in result["lengths"]] == [5, 5]
    assert abs(result["mean"] - sum(map(sum, result["returns"])) / 10) < 1e-5
    assert set(result) == {"returns", "lengths", "mean"}
    code, printed, _ = run(capsys, "eval", out, "--episodes", 3)
    assert code == 0 and "over 6 episodes" in printed
    code, printed, _ = run(capsys, "plot", out, out, "--out", tmp_path / "b.png")
    assert code == 0 and printed.strip() == str(tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes()[1:4] == b"PNG"


def test_eval_prints_the_first_seeds_table(trained, capsys):
    import jaxrl

    _, printed, _ = run(capsys, "eval", trained[0], "--episodes", 1)
    title, header, *rows = printed.splitlines()[:12]
    assert title == "action values of seed 0, * greedy"
    assert header.split() == ["state", "action", "0", "action", "1", "action", "2"]
    _, states = jaxrl.load(trained[0])
    q = states.agent.q[0]
    for s, row in enumerate(rows):
        state, *values = row.split()
        assert int(state) == s
        assert [float(v.rstrip("*")) for v in values] == pytest.approx(q[s].tolist(), rel=1e-3)
        assert [v.endswith("*") for v in values] == pytest.approx((q[s] == q[s].max()).tolist())


def test_plot_draws_the_table_of_one_run(trained, capsys, tmp_path):
    out, _ = trained
    assert (out / "values.png").read_bytes()[1:4] == b"PNG"  # drawn by `train` already
    (out / "values.png").unlink()
    code, printed, _ = run(capsys, "plot", out)
    assert code == 0 and printed.splitlines() == [str(out / "curve.png"), str(out / "values.png")]
    assert (out / "values.png").read_bytes()[1:4] == b"PNG"
    code, printed, _ = run(capsys, "plot", out, "--out", tmp_path / "b.png")
    assert printed.splitlines() == [str(tmp_path / "b.png"), str(tmp_path / "values.png")]
    code, printed, _ = run(capsys, "plot", out, out, "--out", tmp_path / "c.png")
    assert printed.splitlines() == [str(tmp_path / "c.png")]


def test_plot_draws_the_curve_of_a_run_without_a_checkpoint(trained, capsys, tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    with pytest.warns(UserWarning, match=f"^action values are not drawn: {tmp_path} has no checkpoint yet$"):
        code, printed, _ = run(capsys, "plot", tmp_path)
    assert code == 0 and printed.splitlines() == [str(tmp_path / "curve.png")]


def test_lists(capsys):
    code, printed, _ = run(capsys, "list", "agents")
    assert code == 0 and [line.split()[0] for line in printed.splitlines()] == registry.agent_names()
    code, printed, _ = run(capsys, "list", "envs")
    names = [line.split()[0] for line in printed.splitlines()]
    libraries = [name for name in names if ":" in name]
    assert {name.partition(":")[0] for name in libraries} == set(lookup.LIBRARIES)
    assert code == 0 and names == [*registry.env_names(), *libraries]
    names = names[: -len(libraries)]
    assert {"RandomGame", "CartPole-v1"} <= set(names)
    assert len([n for n in names if n not in registry.own_envs()]) == 25


@pytest.mark.parametrize("agent", registry.agent_names())
def test_help_explains_every_setting_with_its_default(agent, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", agent, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    _, factory = registry.find_agent(agent)
    for cls in (factory.Config, factory.HParams):
        for field in cls.__dataclass_fields__.values():
            flag = "--" + field.name.replace("_", "-")
            assert flag in text
            entry = text.replace("│", " ").split(f"  {flag}")[1].split("\n  --")[0].split("\n   --")[0]
            after = " ".join(entry.split())
            assert "(default: " in after and len(after.split("(default:")[0].split()) > 3, flag


def test_help_shows_the_presets_values(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "dqn", "--env", "CartPole-v1", "--help"])
    assert "(default: 120 84)" in capsys.readouterr().out
    assert cli.main([]) == 0 and cli.main(["train"]) == 0


TRAIN = ["train", "dqn", "--env", "CartPole-v1", "--out", "{tmp}/new"]
SWEEP = ["sweep", *TRAIN[1:]]
BAD = [
    (["trian"], "'trian'; nearest: train"),
    (["train", "dqm", "--env", "CartPole-v1"], "'dqm'; nearest: dqn"),
    (["train", "--env", "CartPole-v1"], "the agent comes first"),
    (["train", "dqn"], "--env"),
    (["train", "dqn", "--env", "CartPol-v1", "--out", "{tmp}/new"], "nearest: CartPole-v1"),
    (["train", "dqn", "--env", "MNISTBandit-bsuite", "--out", "{tmp}/new"], "needs a download"),
    ([*TRAIN, "--learning-rat", "1"], "'--learning-rat' of jaxrl train dqn; nearest: --learning-rate"),
    ([*TRAIN, "stray"], "unknown argument 'stray'"),
    (["train", "dqn", "CartPole-v1"], "an environment is a flag too: jaxrl train dqn --env CartPole-v1"),
    ([*TRAIN, "--dry-run"], "unknown flag '--dry-run' of jaxrl train dqn; it is of jaxrl sweep"),
    ([*SWEEP, "--grid", "gamma=0.9", "1"], "unknown argument '1' of jaxrl sweep dqn after 'gamma=0.9': several values"),
    ([*SWEEP, "--grid", "gamma=uniform:0.9,1"], "draw from it with --random gamma=uniform:0.9,1.0 --samples N"),
    ([*TRAIN, "--learning-rate", "abc"], "--learning-rate"),
    ([*TRAIN, "--learning-rate", "-1"], "learning_rate = -1.0 is out of range: must be > 0"),
    ([*TRAIN, "--learning-rate", "nan"], "learning_rate"),
    ([*TRAIN, "--gamma", "1.5"], "gamma = 1.5 is out of range: must be >= 0 and <= 1"),
    ([*TRAIN, "--batch-size", "0"], "batch_size = 0 is out of range"),
    ([*TRAIN, "--batch-size"], "--batch-size"),
    ([*TRAIN, "--hidden-sizes", "64", "0"], "hidden_sizes"),
    ([*TRAIN, "--loss", "hubber"], "huber"),
    ([*TRAIN, "--torso", "minatar"], "torso = minatar needs images"),
    ([*TRAIN, "--replay-capacity", "5"], "replay_capacity = 5"),
    ([*TRAIN, "--replay-capacity", "40", "--n-step", "9"], "n_step = 9"),
    ([*TRAIN, "--distributional", "c52"], "c51"),
    ([*TRAIN, "--v-min", "10"], "v_min = 10.0 must be below v_max = 10.0"),
    (["train", "pqn", "--env", "CartPole-v1", "--num-minibatches", "7", "--out", "{tmp}/new"], "num_minibatches = 7 must"),
    (["train", "sarsa", "--env", "CartPole-v1", "--out", "{tmp}/new"], "needs discrete observations"),
    (["train", "ucb", "--env", "Pendulum-v1", "--out", "{tmp}/new"], "needs discrete actions"),
    *[
        (["train", agent, "--env", "CartPole-v1", "--out", "{tmp}/new"], f"{agent!r} ignores observations, and CartPole-v1")
        for agent in ("ucb", "thompson", "epsilon_greedy", "gradient_bandit")
    ],
    ([*TRAIN, "--alpha", "1"], "'alpha' of jaxrl train may mean temperature or priority_exponent"),
    ([*TRAIN, "--clip-range", "1"], "unknown flag '--clip-range' of jaxrl train dqn"),
    ([*TRAIN, "--total-steps", "1.5"], "--total-steps = 1.5 is no whole number"),
    ([*TRAIN, "--num-envs", "few"], "--num-envs = few must be an integer"),
    ([*TRAIN, "--hidden-sizes", "64y64"], "--hidden-sizes = 64y64 must be an integer"),
    ([*TRAIN, "--learning-rate", "fast"], "--learning-rate = fast must be a number"),
    (["train", "mine.py", "--env", "CartPole-v1"], "mine.py is a file: name the agent in it, as mine.py:make"),
    (["train", "dqn", "--env", "mine.py"], "mine.py is a file: name the environment in it, as mine.py:make"),
    (["check", "mine.py"], "mine.py is a file: name the agent or environment in it, as mine.py:make"),
    ([*TRAIN, "--preset", "{tmp}/nowhere.toml"], "nowhere.toml cannot be read"),
    (["check", "CartPol-v1"], "unknown agent or environment 'CartPol-v1'; nearest: CartPole-v1"),
    (["list", "all", "dqn"], "jaxrl list agents dqn, or jaxrl list envs dqn"),
    (["train", "ucb", "--env", "GaussianBandit", "--env-kwarg", "num_arms=1", "--out", "{tmp}/new"], "num_arms = 1"),
    ([*TRAIN, "--seeds", "0"], "seeds = 0"),
    ([*TRAIN, "--seed", "-1"], "seed = -1"),
    ([*TRAIN, "--total-steps", "0"], "total_steps = 0"),
    ([*TRAIN, "--total-steps", "99999999999"], "total_steps = 99999999999"),
    ([*TRAIN, "--preset", "CartPole"], "nearest: CartPole-v1"),
    ([*TRAIN, "--env-param", "gravitas=1"], "nearest: gravity"),
    ([*TRAIN, "--env-param", "gravity"], "must look like name=value"),
    ([*TRAIN, "--env-param", "gravity=heavy"], "gravity = 'heavy' is not a number"),
    ([*TRAIN, "--env-param", "gravity=[1,2]"], "must have shape ()"),
    ([*TRAIN, "--env-param", "max_steps_in_episode=1.5"], "must be of type int32"),
    ([*TRAIN, "--env-kwarg", "x=1"], "unknown argument of CartPole-v1 'x'"),
    (["train", "dqn", "--env", "Pendulum-v1", "--out", "{tmp}/new"], "needs discrete actions; Pendulum-v1 has Box(1,)"),
    (
        ["train", "td3", "--env", "CartPole-v1", "--out", "{tmp}/new"],
        "needs actions in a bounded Box; CartPole-v1 has Discrete(2)",
    ),
    (
        ["train", "ppo", "--env", "CartPole-v1", "--torso", "grue", "--out", "{tmp}/new"],
        "torso",
    ),
    (
        ["train", "ppo", "--env", "CartPole-v1", "--torso", "gru", "--num-envs", "6", "--out", "{tmp}/new"],
        "num_minibatches = 4 must divide num_envs (torso = gru draws whole sequences) = 6",
    ),
    (
        ["train", "a2c", "--env", "FrozenLake-misc", "--normalize-observations", "--out", "{tmp}/new"],
        "normalize_observations needs observations in a Box; FrozenLake-misc has Discrete(16)",
    ),
    (["train", "q_learning", "--env", "Breakout-MinAtar", "--out", "{tmp}/new"], "needs discrete observations"),
    (["train", "dqn", "--env", "FrozenLake-misc", "--env-kwarg", "map_name=9x9", "--out", "{tmp}/new"], "map_name must be"),
    (["train", "dqn", "--env", "CartPole-v1", "--out", "{tmp}/full"], "exists and is not empty"),
    (["train", "dqn", "--env", "CartPole-v1", "--out", "{tmp}/full", "--overwrite"], "is no jaxrl directory"),
    (["train", "dqn", "--env", "CartPole-v1", "--out", "{tmp}/file"], "is a file; give a directory"),
    (["resume", "{tmp}/nowhere"], "no jaxrl directory"),
    (["resume", "{tmp}/full"], "is no jaxrl directory"),
    (["resume", "{tmp}/foreign"], "was written by jaxrl 0.1"),
    (["resume", "{tmp}/later"], "has format 99"),
    (["eval", "{tmp}/foreign"], "was written by jaxrl 0.1"),
    (["resume", "{tmp}/broken"], "is damaged"),
    (["resume", "{tmp}/partial"], "is damaged"),
    (["resume"], "Directory of a run"),
    (["eval", "{tmp}/nowhere"], "no jaxrl directory"),
    (["eval", "{tmp}/broken"], "is damaged"),
    (["eval", "{tmp}/full", "--episodes", "0"], "episodes = 0"),
    (["plot"], "at least one"),
    (["plot", "{tmp}/full"], "is no jaxrl directory: it has no config.json"),
    (["plot", "{tmp}/nowhere"], "no jaxrl directory"),
    (["list", "agent"], "agents"),
]


@pytest.mark.parametrize("words,expected", BAD, ids=[" ".join(w) for w, _ in BAD])
def test_bad_input_is_one_line_and_changes_nothing(words, expected, capsys, tmp_path):
    for name, config in {
        "full": None,
        "foreign": '{"jaxrl_run": 99}',
        "broken": '{"jaxrl_run": 1, "agent',
        "later": '{"jaxrl": 99, "kind": "run"}',
        "partial": '{"jaxrl": 3, "kind": "run", "agent": "dqn"}',
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / ("config.json" if config else "thesis.tex")).write_text(config or "years of work")
    (tmp_path / "file").write_text("also work")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code, out, err = run(capsys, *[w.replace("{tmp}", str(tmp_path)) for w in words])
    assert code == 2
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("jaxrl: error: "), err
    assert expected in err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_overwrite_replaces_only_a_former_run(capsys, tmp_path, trained):
    import shutil

    out = tmp_path / "again"
    shutil.copytree(trained[0], out)
    (out / "notes.txt").write_text("mine")
    words = ["train", "q_learning", "--env", "RandomGame", "--total-steps", 600, "--out", out, "--overwrite", "--json"]
    code, printed, _ = run(capsys, *words)
    assert code == 0 and json.loads(printed.splitlines()[-1])["seeds"] == 1
    assert (out / "notes.txt").read_text() == "mine"
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
