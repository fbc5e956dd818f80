"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#333333"];
const SHOWN = 8; // configurations ticked at first
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const LAYOUT = {
  margin: { l: 60, r: 16, t: 12, b: 48 }, showlegend: false, hovermode: "closest",
  font: { family: "system-ui, sans-serif", color: "#1f2933" }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
};
const AXIS = { gridcolor: "#e8ecf0", zerolinecolor: "#c8d0d8", automargin: true };
const several = data.sources.length > 1;
const byId = (id) => document.getElementById(id);
const shown = new Set(); // indices of data.series

/** An element with properties and children. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A number with three significant digits or more, as jaxrl/core/numbers.py writes them; `beside`: read together with it. */
function number(x, ...beside) {
  if (x === null || x === undefined) return "–";
  const largest = Math.max(...[x, ...beside].map((each) => Math.abs(each ?? 0)));
  if (largest === 0) return "0";
  if (largest < 1e-4 || largest >= 1e7) return x.toPrecision(3);
  return x.toFixed(largest >= 1000 ? 0 : Math.max(1, 2 - Math.floor(Math.log10(largest))));
}
const interval = (low, high) => (low === null || low === undefined ? "–" : `[${number(low, high)}, ${number(high, low)}]`);
const rgba = (hex, alpha) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${alpha})`;
const colour = (i) => COLOURS[data.series[i].position % COLOURS.length];
const inEnvironment = () => data.series.map((_, i) => i).filter((i) => data.series[i].env === byId("environment").value);
const seriesOf = (member) => data.series.find((s) => s.source === member.source && s.config === member.config);

/** A line with its band, as plotly traces; points without a value are left out. */
function traces(x, line, name, tint, step) {
  const known = x.map((_, k) => k).filter((k) => line.mean[k] !== null);
  const shape = step ? "hv" : "linear";
  const found = [];
  const banded = known.filter((k) => line.low && line.low[k] !== null && line.low[k] !== undefined);
  if (banded.length) {
    const edge = { mode: "lines", line: { width: 0, shape }, hoverinfo: "skip", x: banded.map((k) => x[k]) };
    found.push({ ...edge, y: banded.map((k) => line.low[k]) });
    found.push({ ...edge, y: banded.map((k) => line.high[k]), fill: "tonexty", fillcolor: rgba(tint, 0.16) });
  }
  const style = { color: tint, width: 2, shape };
  found.push({ mode: known.length > 1 ? "lines" : "markers", name, x: known.map((k) => x[k]), y: known.map((k) => line.mean[k]),
    line: style, marker: { color: tint }, hovertemplate: "%{y:.5g}<extra>%{fullData.name}</extra>" });
  return found;
}

function drawCurves() {
  const metric = byId("metric").value;
  const axis = document.querySelector("input[name=axis]:checked").value;
  const drawn = inEnvironment().filter((i) => shown.has(i) && data.series[i].metrics[metric]).sort(byReturn).reverse();
  const lines = drawn.flatMap((i) => traces(data.series[i][axis], data.series[i].metrics[metric], data.series[i].label, colour(i)));
  const title = { steps: "environment steps of a seed", seconds: "wall time of training (s)" }[axis];
  Plotly.react("curve-chart", lines, { ...LAYOUT, xaxis: { ...AXIS, title: { text: title }, rangemode: "tozero" },
    yaxis: { ...AXIS, title: { text: metric.replaceAll("_", " ") } } }, CONFIG);
}

function drawProfiles() {
  const profile = data.profiles[byId("environment").value];
  byId("profiles").hidden = !profile;
  if (!profile) return;
  const drawn = inEnvironment().filter((i) => shown.has(i) && profile.lines[i]).sort(byReturn).reverse();
  const lines = drawn.flatMap((i) => traces(profile.levels, profile.lines[i], data.series[i].label, colour(i), true));
  Plotly.react("profile-chart", lines, { ...LAYOUT, xaxis: { ...AXIS, title: { text: "final return τ" } },
    yaxis: { ...AXIS, title: { text: "fraction of seeds above τ" }, range: [-0.03, 1.03] } }, CONFIG);
}

const SPLITS = ["train", "validation", "test"];

/** Bars of the three splits' final returns, a group for each configuration, and a table with the gap. */
function drawLevels() {
  const drawn = inEnvironment().filter((i) => data.series[i].splits && shown.has(i)).sort(byReturn);
  byId("levels").hidden = !inEnvironment().some((i) => data.series[i].splits);
  if (byId("levels").hidden) return;
  const of = (i, split) => data.series[i].splits[split];
  const away = (i, split, end) => (of(i, split)[end] === null ? 0 : Math.abs(of(i, split)[end] - of(i, split).mean));
  const bars = SPLITS.map((split, k) => ({ type: "bar", name: split, x: drawn.map((_, n) => n), y: drawn.map((i) => of(i, split).mean),
    marker: { color: COLOURS[k] }, hovertemplate: "%{y:.5g}<extra>%{fullData.name}</extra>",
    error_y: { type: "data", symmetric: false, thickness: 1.5,
      array: drawn.map((i) => away(i, split, "high")), arrayminus: drawn.map((i) => away(i, split, "low")) } }));
  const ticks = { tickvals: drawn.map((_, n) => n), ticktext: drawn.map((i) => data.series[i].label) };
  Plotly.react("level-chart", bars, { ...LAYOUT, barmode: "group", showlegend: true, xaxis: { ...AXIS, ...ticks },
    yaxis: { ...AXIS, title: { text: "final return" } } }, CONFIG);
  const column = (title, split) => ({ title, value: (i) => of(i, split).mean, text: (i) => number(of(i, split).mean) });
  byId("level-table").replaceChildren();
  table(byId("level-table"), [{ title: "configuration", value: (i) => data.series[i].label },
    ...SPLITS.map((split) => column(split, split)), column("generalisation gap", "gap"),
    { title: "95 % of the gap", value: (i) => of(i, "gap").low, text: (i) => interval(of(i, "gap").low, of(i, "gap").high) },
  ], drawn);
}

function drawEffects() {
  byId("effects").hidden = !data.effects.length;
  for (const effect of data.effects) {
    const beside = data.effects.filter((each) => each.source === effect.source); // one scale, so that they compare
    const heights = beside.flatMap((e) => [e.each_y, e.mean, e.low, e.high].flat()).filter((y) => y !== null);
    const [low, high] = [Math.min(...heights), Math.max(...heights)];
    const margin = 0.06 * (high - low) || 1;
    const chart = make("div", { className: "chart" });
    const source = data.sources[effect.source];
    byId("effect-charts").append(make("div", {}, make("h3", { textContent: (several ? `${source.dir}: ` : "") + effect.name }), chart));
    const dots = { x: effect.each_x, y: effect.each_y, mode: "markers", marker: { color: "#9aa5b1", size: 6, opacity: 0.6 },
      hovertemplate: "%{y:.5g}<extra>a configuration</extra>" };
    const up = effect.mean.map((m, k) => (effect.high[k] === null ? 0 : effect.high[k] - m));
    const down = effect.mean.map((m, k) => (effect.low[k] === null ? 0 : m - effect.low[k]));
    const means = { x: effect.x, y: effect.mean, mode: effect.joined ? "lines+markers" : "markers",
      marker: { color: "#0072b2", size: 8 }, hovertemplate: "%{y:.5g}<extra>mean</extra>",
      error_y: { type: "data", symmetric: false, array: up, arrayminus: down, color: "#0072b2", thickness: 1.5 } };
    const ticks = effect.labels.length ? { tickvals: effect.x, ticktext: effect.labels } : {};
    const xaxis = { ...AXIS, ...ticks, type: effect.scale === "log" ? "log" : "linear" };
    Plotly.newPlot(chart, [dots, means], { ...LAYOUT, xaxis,
      yaxis: { ...AXIS, title: { text: "final return" }, range: [low - margin, high + margin] } }, CONFIG);
  }
}

/** A table whose columns sort: {title, value(row), text?(row), node?(row)}. Returns filter(words), which shows the rows with all. */
function table(place, columns, rows) {
  const body = make("tbody");
  const headers = columns.map((column) => {
    const numeric = rows.some((row) => typeof column.value(row) === "number");
    const button = make("button", { type: "button", textContent: column.title });
    const header = make("th", { scope: "col", className: numeric ? "number" : "" }, button);
    button.addEventListener("click", () => sort(column, header));
    return Object.assign(header, { numeric });
  });
  const lines = rows.map((row) => {
    const cells = columns.map((column, c) => {
      const shown = column.node ? column.node(row) : (column.text || ((r) => String(column.value(r) ?? "")))(row);
      return make("td", { className: headers[c].numeric ? "number" : "" }, shown);
    });
    const line = make("tr", {}, ...cells);
    return { row, line, words: cells.map((cell) => cell.textContent).join(" ").toLowerCase() };
  });
  function sort(column, header) {
    const way = header.getAttribute("aria-sort") === "descending" ? 1 : -1;
    headers.forEach((each) => each.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const unknown = (x) => x === null || x === undefined; // come last either way
    lines.sort(({ row: a }, { row: b }) => {
      const [x, y] = [column.value(a), column.value(b)];
      if (unknown(x) || unknown(y)) return unknown(x) - unknown(y);
      return way * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
    });
    body.append(...lines.map((each) => each.line));
  }
  body.append(...lines.map((each) => each.line));
  place.append(make("table", {}, make("thead", {}, make("tr", {}, ...headers)), body));
  return (words) => {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    for (const each of lines) each.line.hidden = !wanted.every((word) => each.words.includes(word));
    return lines.filter((each) => !each.line.hidden).map((each) => each.row);
  };
}

const byReturn = (i, j) => (data.series[j].final.mean ?? -Infinity) - (data.series[i].final.mean ?? -Infinity) || i - j;
let filterConfigurations = () => [];

/** The table of an environment's configurations: legend, switches and results in one. */
function showConfigurations() {
  byId("configurations").replaceChildren();
  const tick = (i) => {
    const box = make("input", { type: "checkbox", checked: shown.has(i) });
    box.dataset.series = i;
    box.addEventListener("change", () => { if (box.checked) shown.add(i); else shown.delete(i); draw(); });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colour(i);
    return make("label", {}, box, " ", swatch, data.series[i].label);
  };
  const final = (i) => data.series[i].final;
  filterConfigurations = table(byId("configurations"), [
    { title: "configuration", value: (i) => data.series[i].label, node: tick },
    { title: "final return", value: (i) => final(i).mean, text: (i) => number(final(i).mean) },
    { title: "95 % over seeds", value: (i) => final(i).low, text: (i) => interval(final(i).low, final(i).high) },
    { title: "IQM", value: (i) => final(i).iqm, text: (i) => number(final(i).iqm) },
    { title: "seeds", value: (i) => data.series[i].seeds },
    { title: "diverged", value: (i) => data.series[i].diverged },
  ], inEnvironment().sort(byReturn));
  filterConfigurations(byId("configuration-filter").value);
}

function tickAll(which) {
  const here = filterConfigurations(byId("configuration-filter").value);
  inEnvironment().forEach((i) => shown.delete(i));
  if (which !== "none") here.sort(byReturn).slice(0, which === "best" ? SHOWN : undefined).forEach((i) => shown.add(i));
  showConfigurations();
  draw();
}

function draw() {
  drawCurves();
  drawProfiles();
  drawLevels();
}

/** Another environment: its metrics, its configurations. */
function enter() {
  const here = inEnvironment();
  const metrics = [...new Set(here.flatMap((i) => Object.keys(data.series[i].metrics)))];
  byId("metric").replaceChildren(...metrics.map((name) => make("option", { value: name, textContent: name.replaceAll("_", " ") })));
  showConfigurations();
  draw();
}

/** A policy's film, with a button and a slider. */
function film(policy) {
  const image = make("img", { src: policy.frames[0], alt: `${policy.which} policy, one greedy episode` });
  const slider = make("input", { type: "range", min: 0, max: policy.frames.length - 1, value: 0 });
  slider.setAttribute("aria-label", "frame");
  const button = make("button", { type: "button", textContent: "play" });
  let timer = null;
  const show = (k) => { slider.value = k; image.src = policy.frames[k]; };
  const stop = () => { clearTimeout(timer); timer = null; button.textContent = "play"; };
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "pause";
    const next = () => {
      show((Number(slider.value) + 1) % policy.frames.length);
      timer = setTimeout(next, policy.durations[slider.value]);
    };
    next();
  });
  slider.addEventListener("input", () => { if (timer) stop(); show(Number(slider.value)); });
  const one = seriesOf(policy);
  const caption = make("figcaption", {}, make("strong", { textContent: policy.which }),
    ` ${one.label}, seed ${policy.seed}: final return ${number(policy.final)}`);
  const player = make("div", { className: "player" }, button, slider);
  const alt = `action values of the ${policy.which} policy`;
  const values = policy.values ? [make("img", { src: policy.values, alt, className: "map" })] : [];
  return make("figure", {}, image, player, ...values, caption);
}

function showMembers() {
  const about = (m) => seriesOf(m).label;
  const filter = table(byId("member-table"), [
    { title: "config", value: (m) => m.config },
    { title: "settings", value: about },
    { title: "seed", value: (m) => m.seed },
    { title: "final return", value: (m) => m.final, text: (m) => number(m.final) },
    { title: "95 % over episodes", value: (m) => m.low, text: (m) => interval(m.low, m.high) },
    { title: "diverged", value: (m) => (m.diverged ? "diverged" : "no") },
  ], [...data.members].sort((a, b) => (b.final ?? -Infinity) - (a.final ?? -Infinity)));
  const update = () => {
    const count = filter(byId("member-filter").value).length;
    byId("member-count").textContent = `${count} of ${data.members.length}`;
  };
  byId("member-filter").addEventListener("input", update);
  update();
}

const seconds = (s) => (s >= 100 ? `${Math.round(s).toLocaleString("en")} s` : `${number(s)} s`);

const SPELLED = "Every setting that is no default is spelled out, those of the preset too: later presets change nothing.";

/** One directory: plan, time, memory, versions, commands. */
function source(one) {
  const total = one.time.compile + one.time.train + one.time.evaluate || 1;
  const parts = Object.entries(one.time).filter(([, s]) => s > 0);
  const bar = make("div", { className: "bar" });
  const words = parts.map(([name, s], k) => {
    const span = make("span", { title: `${name} ${seconds(s)}` });
    Object.assign(span.style, { width: `${(100 * s) / total}%`, background: COLOURS[k] });
    bar.append(span);
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = COLOURS[k];
    return make("span", {}, swatch, `${name} ${seconds(s)} (${Math.round((100 * s) / total)} %)`);
  });
  const waves = make("div", { className: "table" });
  table(waves, [
    { title: one.kind === "sweep" ? "wave" : "program", value: (w) => w.name },
    { title: "members", value: (w) => w.members },
    { title: "devices × width", value: (w) => w.layout },
    { title: "training", value: (w) => w.train, text: (w) => seconds(w.train) },
    { title: "evaluations", value: (w) => w.evaluate, text: (w) => seconds(w.evaluate) },
    { title: "steps/s", value: (w) => w.steps_per_s, text: (w) => w.steps_per_s.toLocaleString("en") },
    { title: "memory, as compiled", value: (w) => w.bytes, text: (w) => w.memory || "–" },
  ], one.waves);
  const plan = make("div", { className: "table" });
  table(plan, [
    { title: "program", value: (p) => p.program },
    { title: "members", value: (p) => p.members },
    { title: "waves", value: (p) => p.waves },
    { title: "devices × width", value: (p) => p.layout },
    { title: "memory planned", value: (p) => p.bytes, text: (p) => p.memory || "–" },
    { title: "static settings", value: (p) => p.statics },
  ], one.programs);
  const facts = { agent: one.agent, environment: one.env, preset: one.preset, commit: one.git_commit || "none" };
  if (one.memory_limit) facts["memory limit"] = one.memory_limit;
  for (const change of one.extended) facts.extended = `from ${change.from} to ${change.to} steps a seed`;
  const list = (values) => make("dl", {}, ...Object.entries(values || {}).flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  const commands = one.commands.map((text) => {
    const copy = make("button", { type: "button", textContent: "copy" });
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "copied";
    });
    return make("div", { className: "command" }, make("pre", { textContent: text }), copy);
  });
  return make("article", {},
    make("h3", { textContent: `${one.dir}: ${one.agent} on ${one.env}` }),
    ...commands,
    ...(commands.length ? [make("p", { className: "note", textContent: SPELLED })] : []),
    ...one.pictures.map((src) => make("img", { src, alt: `trials of ${one.dir}`, className: "trials" })),
    ...(one.programs.length ? [make("h4", { textContent: "plan" }), plan] : []),
    make("h4", { textContent: "time" }), bar, make("p", { className: "controls quiet" }, ...words, make("span", { textContent: `${one.steps_per_s.toLocaleString("en")} steps/s` })),
    waves, make("h4", { textContent: "settings, hardware, versions" }), list(facts), ...one.devices.map(list), list(one.versions));
}

function start() {
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const kinds = [...new Set(data.sources.map((s) => s.kind))];
  const sources = kinds.map((kind) => count(data.sources.filter((s) => s.kind === kind).length, kind));
  byId("summary").textContent = [...sources, count(data.series.length, "configuration"),
    count(data.members.length, "member"), `written ${data.written}`].join(", ");
  const environments = [...new Set(data.series.map((s) => s.env))];
  byId("environment").append(...environments.map((env) => make("option", { value: env, textContent: env })));
  byId("environment-choice").hidden = environments.length < 2;
  for (const env of environments) {
    data.series.map((s, i) => i).filter((i) => data.series[i].env === env).sort(byReturn)
      .forEach((i, k) => { data.series[i].position = k; if (k < SHOWN) shown.add(i); });
  }
  byId("environment").addEventListener("change", enter);
  byId("metric").addEventListener("change", drawCurves);
  document.querySelectorAll("input[name=axis]").forEach((each) => each.addEventListener("change", drawCurves));
  byId("configuration-filter").addEventListener("input", () => filterConfigurations(byId("configuration-filter").value));
  document.querySelectorAll("[data-show]").forEach((each) => each.addEventListener("click", () => tickAll(each.dataset.show)));
  enter();
  drawEffects();
  byId("films").append(...data.policies.map(film));
  byId("policies").hidden = !data.policies.length;
  showMembers();
  byId("sources").append(...data.sources.map(source));
  const sections = [...document.querySelectorAll("main > section")].filter((each) => !each.hidden);
  byId("contents").append(...sections.map((each) => make("a", { href: `#${each.id}`, textContent: each.querySelector("h2").textContent })));
}

start();
