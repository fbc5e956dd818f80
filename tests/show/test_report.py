"""`jaxrl report`: its numbers against the directories it reads, and the page in a browser."""

import json
import shutil
import time

import numpy as np
import pytest

from benchmarks.harness import browser
from jaxrl.cli import main as cli
from jaxrl.core import stats
from jaxrl.show import plot, report
from jaxrl.show.report import contents, policies, sources
from jaxrl.sweeps import reading
from tests.command_line import jaxrl_cli
from tests.directories import write_config
from tests.extras import needs_browser

pytestmark = pytest.mark.usefixtures("keep_platform")

SWEEP = ["sweep", "q_learning", "--env", "CliffWalking", "--preset", "none", "--seeds", 3, "--total-steps", 20_000,
         "--grid", "learning_rate=0.001,0.01,0.5", "--grid", "num_envs=1,2", "--eval-every", 10_000]  # fmt: skip
RUN = ["train", "ppo", "--env", "CartPole-v1", "--seeds", 2, "--total-steps", 4_000]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep of 6 configurations, one member of which is made to have diverged, and a run."""
    base = tmp_path_factory.mktemp("report")
    jaxrl_cli(*SWEEP, "--out", base / "sweep")
    jaxrl_cli(*RUN, "--out", base / "run")
    path = base / "sweep" / "waves" / "0-0" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (lost,) = [row for row in rows if (row["config"], row["seed"], row["iteration"]) == (2, 1, 3)]
    lost["diverged"] = True
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return base


@pytest.fixture(scope="module")
def page(trained):
    jaxrl_cli("report", trained / "sweep", trained / "run", "--out", trained / "r.html")
    return trained / "r.html"


def test_members_are_those_of_the_directories(trained):
    source = sources.read(trained / "sweep")
    found = contents.of([source])["members"]
    kept = json.loads((trained / "sweep" / "waves" / "0-0" / "summary.json").read_text())
    members = json.loads((trained / "sweep" / "waves" / "0-0" / "config.json").read_text())["members"]
    for member, final, ends in zip(
        members, kept["final_return"]["per_seed"], kept["per_seed_interval"], strict=True
    ):  # program 0
        (shown,) = [m for m in found if (m["config"], m["seed"]) == (member["config"], member["seed"])]
        assert shown["final"] == pytest.approx(final, rel=1e-5) and [shown["low"], shown["high"]] == ends
    assert len(found) == 18 and [(m["config"], m["seed"]) for m in found if m["diverged"]] == [(2, 1)]


def test_series_by_hand(trained):
    """Ends of curves, their seconds, final returns with intervals and ranks, against the sweep read by the library."""
    source = sources.read(trained / "sweep")
    result, series = reading.load(trained / "sweep"), contents.of([source])["series"]
    for c, one in enumerate(series):
        assert one["config"] == c and one["steps"][-1] == result.metrics["env_steps"][c, 0, -1]
        low, high = stats.bootstrap_interval(result.final_return[c])
        shown = [one["final"][name] for name in ("mean", "low", "high")]
        np.testing.assert_allclose(shown, [result.final_return[c].mean(), low, high], rtol=1e-4)
        name = f"{c % 2}-0"  # num_envs tells the programs apart, and varies fastest
        chunks = [
            json.loads(line) for line in (trained / "sweep" / "waves" / name / "timing.jsonl").read_text().splitlines()
        ]
        assert one["seconds"][-1] == pytest.approx(sum(chunk["seconds"] for chunk in chunks), rel=1e-4)
    assert [one["label"] for one in series] == [
        f"learning_rate={r} num_envs={n}" for r in (0.001, 0.01, 0.5) for n in (1, 2)
    ]
    evaluated = series[0]["metrics"]["eval_return"]["mean"]
    by_hand = result.metrics["eval_return"][0]
    assert evaluated[-1] == pytest.approx(by_hand[np.isfinite(by_hand)].reshape(3, -1)[:, -1].mean(), rel=1e-4)


def test_profiles_are_fractions_above(trained):
    source = sources.read(trained / "sweep")
    profile = contents.of([source])["profiles"]["CliffWalking"]
    for c, line in profile["lines"].items():
        above = (source.result.final_return[int(c)][:, None] > np.array(profile["levels"])).mean(0)
        np.testing.assert_allclose(line["mean"], above, atol=1e-5)


def test_the_clock_counts_what_was_trained_again_once():
    """Two chunks of 2 iterations of 10 steps; killed; resumed after the first: 3 s + 5 s."""
    rows = [
        {"env_steps": 20, "iterations": 2, "seconds": 3.0},
        {"env_steps": 40, "iterations": 2, "seconds": 4.0},
        {"env_steps": 40, "iterations": 2, "seconds": 5.0},
    ]
    steps, seconds = sources.clock(rows, 10)
    assert steps.tolist() == [0, 20, 40] and seconds.tolist() == [0, 3, 8]


def test_a_loss_that_is_no_number_any_more_leaves_a_gap():
    """A diverged seed's last loss does not stand for those after it."""
    loss = np.array([[1.0, 0.5, np.nan, np.inf]])
    thin = plot.thinned("", np.arange(4), loss, np.isfinite(loss))
    np.testing.assert_array_equal(thin.returns, [[1.0, 0.5, np.nan, np.nan]])


def test_best_median_and_worst_are_told_apart():
    nan = np.nan
    assert policies.chosen(np.array([[1.0, 5.0], [3.0, nan]])) == {"best": (0, 1), "median": (1, 0), "worst": (0, 0)}
    assert policies.chosen([np.array([2.0]), np.array([1.0, 0.0, 4.0])])["best"] == (1, 2)  # unlike numbers of seeds
    assert policies.chosen(np.array([[2.0, 1.0]])) == {"best": (0, 0), "worst": (0, 1)}
    assert policies.chosen(np.array([[2.0]])) == {"best": (0, 0)} and policies.chosen(np.array([[nan]])) == {}


def test_the_page_needs_no_network_and_holds_its_data(page):
    text = page.read_text()
    assert text.count("<script") == 3 and "src=" not in text.split("<body>")[0] and page.stat().st_size < 10e6
    held = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert [source["kind"] for source in held["sources"]] == ["sweep", "run"]
    assert held["sources"][1]["commands"] == [
        "jaxrl train ppo --env CartPole-v1 --preset none --total-steps 4000 --seeds 2 --seed 0 --clip-value"
    ]
    assert held["sources"][0]["versions"]["jaxrl"] and held["sources"][0]["time"]["compile"] > 0


def test_names_cannot_break_out_of_the_page():
    source = {"env": "</title><script>alert(1)</script>"}
    page = report.filled({"sources": [source]}, "")
    assert "<script>alert" not in page and page.count("</script>") == 3


@pytest.fixture(scope="module")
def has_browser():
    needs_browser()


@pytest.fixture(scope="module")
def driver(page, has_browser):
    with browser.opened(page) as found:
        yield found


def one(driver, css):
    return driver.find_element("css selector", css)


def all_of(driver, css):
    return driver.find_elements("css selector", css)


def choose(driver, css, value):
    script = "const e = document.querySelector(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('change'))"
    driver.execute_script(script, css, value)


def drawn(driver):
    """The named lines of the curve chart: {name: last x}."""
    script = """const found = {}; for (const t of document.getElementById("curve-chart").data) if (t.name)
        found[t.name] = t.x[t.x.length - 1]; return found"""
    return driver.execute_script(script)


def column(driver, number):
    return [cell.text for cell in all_of(driver, f"#member-table tbody tr:not([hidden]) td:nth-child({number})")]


def click(driver, element):
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def test_a_curve_is_toggled_and_the_axis_switched(driver):
    before = drawn(driver)
    assert len(before) == 6 and set(before.values()) == {20_000}
    click(driver, one(driver, "#configurations input[type=checkbox]"))
    after = drawn(driver)
    assert len(after) == 5 and set(after) < set(before)
    click(driver, one(driver, "input[name=axis][value=seconds]"))
    title = one(driver, "#curve-chart .xtitle").text
    assert "wall time" in title and all(0 < x < 600 for x in drawn(driver).values())
    click(driver, one(driver, "input[name=axis][value=steps]"))
    assert drawn(driver) == after
    choose(driver, "#metric", "eval_return")
    assert one(driver, "#curve-chart .ytitle").text == "eval return"
    click(driver, one(driver, "[data-show=none]"))
    assert drawn(driver) == {}
    click(driver, one(driver, "[data-show=all]"))
    assert len(drawn(driver)) == 6


def test_another_environment_has_its_own_configurations(driver):
    choose(driver, "#environment", "CartPole-v1")
    names = list(drawn(driver))
    assert names == ["ppo"]  # alone in its environment
    assert "entropy" in [option.get_attribute("value") for option in all_of(driver, "#metric option")]
    choose(driver, "#environment", "CliffWalking")
    assert len(drawn(driver)) == 6


def test_the_best_come_first(driver, trained):
    means = [float(cell.text) for cell in all_of(driver, "#configurations tbody tr td:nth-child(2)")]
    assert len(means) == 6 and means == sorted(means, reverse=True)
    finals = [float(x) for x in column(driver, 4)]
    assert finals == sorted(finals, reverse=True)


def test_the_table_of_members_is_sorted_and_filtered(driver):
    header = [h for h in all_of(driver, "#member-table th button") if h.text.startswith("final return")][0]
    click(driver, header)
    down = [float(x) for x in column(driver, 4)]
    assert len(down) == 20 and down == sorted(down, reverse=True) and down[0] > down[-1]
    click(driver, header)
    assert [float(x) for x in column(driver, 4)] == sorted(down)
    one(driver, "#member-filter").send_keys("diverged")
    assert column(driver, 6) == ["diverged"] and column(driver, 1) == ["2"] and column(driver, 3) == ["1"]
    assert one(driver, "#member-count").text == "1 of 20"
    one(driver, "#member-filter").clear()
    one(driver, "#member-filter").send_keys("0.5 num_envs=2")
    assert column(driver, 1) == ["5"] * 3


def test_tabular_agents_show_their_action_values(driver):
    maps = all_of(driver, "#films img.map")
    assert len(maps) == 3  # q_learning's best, median and worst; ppo has no table
    assert all(driver.execute_script("return arguments[0].naturalWidth", image) > 600 for image in maps)


def test_an_animation_is_played_and_paused(driver):
    films = all_of(driver, "#films figure")
    assert [f.find_element("css selector", "strong").text for f in films] == ["best", "median", "worst", "best", "worst"]
    film = films[3]
    image, button = film.find_element("css selector", "img"), film.find_element("css selector", "button")
    first = image.get_attribute("src")
    assert driver.execute_script("return arguments[0].naturalWidth", image) == 400
    click(driver, button)
    deadline = time.monotonic() + 20
    while image.get_attribute("src") == first and time.monotonic() < deadline:
        time.sleep(0.05)
    assert image.get_attribute("src") != first and button.text == "pause"
    click(driver, button)
    held = image.get_attribute("src")
    time.sleep(0.5)
    assert image.get_attribute("src") == held and button.text == "play"


def test_everything_else_is_shown_and_the_console_is_clean(driver):
    assert len(all_of(driver, "#effect-charts .main-svg")) >= 2 and len(all_of(driver, "#profile-chart .main-svg")) >= 1
    told = one(driver, "#sources").text
    for word in (
        "jaxrl sweep q_learning",
        "none: the agent's defaults",
        "CartPole-v1 (presets/ppo.toml)",
        "jaxrl train ppo",
        "static settings",
        "training",
        "memory, as compiled",
        "optax",
    ):
        assert word in told
    assert driver.get_log("browser") == []


def test_it_fits_a_phone(page, has_browser):
    with browser.opened(page, 390, 800) as phone:
        assert phone.execute_script("return document.documentElement.scrollWidth") <= 390
        assert phone.get_log("browser") == []


def test_a_wave_of_a_sweep_is_shown_too(trained):
    """Its configurations are those of the sweep that are in it."""
    found = contents.of([sources.read(trained / "sweep" / "waves" / "1-0")])
    assert [one["config"] for one in found["series"]] == [1, 3, 5] and found["sources"][0]["kind"] == "wave"
    assert [one["label"] for one in found["series"]] == [f"learning_rate={rate}" for rate in (0.001, 0.01, 0.5)]
    whole = contents.of([sources.read(trained / "sweep")])["series"]
    assert [one["final"] for one in found["series"]] == [whole[c]["final"] for c in (1, 3, 5)]


def half(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "half")
    (tmp_path / "half" / "summary.json").unlink()
    return tmp_path / "half"


def part(trained, tmp_path):
    shutil.copytree(trained / "sweep", tmp_path / "part")
    (tmp_path / "part" / "summary.json").unlink()
    return tmp_path / "part"


def foreign(trained, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    return tmp_path


def tuning(trained, tmp_path):
    write_config(tmp_path, "tuning")
    return tmp_path


def damaged(name, text):
    """A copy of the run in which a file is another, or (None) is not there."""

    def make(trained, tmp_path):
        shutil.copytree(trained / "run", tmp_path / "damaged")
        (tmp_path / "damaged" / name).unlink()
        if text is not None:
            (tmp_path / "damaged" / name).write_text(text)
        return tmp_path / "damaged"

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damaged("summary.json", "{}"), "summary.json is damaged: it has no final_return"),
        (
            damaged("summary.json", '{"final_return": {"per_seed": [1, 2]}}'),
            "summary.json is damaged: it has no env_steps",
        ),
        (damaged("timing.jsonl", None), "is damaged: it has no timing.jsonl"),
        (damaged("metrics.jsonl", None), "is damaged: it has no metrics.jsonl"),
        (damaged("metrics.jsonl", ""), "damaged has no metrics yet"),
        (half, "half is not finished; go on with: jaxrl resume"),
        (part, "part is not finished; go on with: jaxrl resume"),
        (foreign, "is no jaxrl directory: it has no config.json"),
        (tuning, "is not finished; go on with: jaxrl resume"),
        (lambda trained, tmp_path: tmp_path / "nothing", "no jaxrl directory"),
        (lambda trained, tmp_path: trained / "r.txt", "no jaxrl directory"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(make, message, trained, tmp_path, capsys):
    directory = make(trained, tmp_path)
    (trained / "r.txt").write_text("")
    assert cli.main(["report", str(trained / "run"), str(directory), "--out", str(tmp_path / "x.html")]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1 and not (tmp_path / "x.html").exists()


def test_where_it_cannot_be_written_and_without_the_extra(trained, tmp_path, monkeypatch, capsys):
    for words, message in (
        ([], "needs at least one directory"),
        ([str(trained / "run"), "--out", str(tmp_path / "no" / "x.html")], "no such directory"),
        ([str(trained / "run"), "--out", str(tmp_path)], "is a directory; give a file"),
    ):
        assert cli.main(["report", *words]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    assert cli.main(["report", str(trained / "run"), "--out", str(tmp_path / "x.html")]) == 2
    assert "pip install 'jaxrl[report]'" in capsys.readouterr().err and not (tmp_path / "x.html").exists()
