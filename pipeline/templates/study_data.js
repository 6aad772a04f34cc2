"use strict";
// The trials as the page holds them, how values are written, and what the reader has chosen.

const DATA = JSON.parse(document.getElementById("data").textContent);
const TRIALS = DATA.trials;
const LESS = DATA.mode === "min";
const NONE = "–";
const LETTERS = "abcdefgh";

// What all charts follow; `choose` changes it and tells them.
const chosen = {
  place: 0,
  one: 0,
  other: Math.min(1, DATA.keys.length - 1),
  cost: "seconds",
  unit: "examples",
};
const listeners = [];

function choose(changes) {
  Object.assign(chosen, changes);
  for (const listen of listeners) listen(Object.keys(changes));
}

for (const trial of TRIALS) {
  trial.id = DATA.compare ? `${LETTERS[trial.study]}-${trial.number}` : String(trial.number);
}
const BY_ID = new Map(TRIALS.map((trial) => [trial.id, trial]));

// What a trial is compared by: {value, low, high, examples, seconds, flops}, or null.
function compared(trial, place = chosen.place) {
  const at = trial.at[place];
  if (!at) return null;
  const [value, low, high, examples, seconds] = at;
  return {
    value,
    low,
    high,
    examples,
    seconds,
    flops: trial.flops === null ? null : trial.flops * examples,
  };
}

// Where the page compares at first: the furthest amount at which three quarters of the map's cells
// that have a value at all have one. By their best values so far, trials of different lengths are
// side by side.
function firstPlace() {
  const cellsAt = (place) =>
    new Set(TRIALS.filter((t) => t.at[place]).map((t) => `${t.levels[0]},${t.levels[1]}`)).size;
  for (let place = DATA.places.length - 1; place > 0; place -= 1) {
    if (cellsAt(place) >= 0.75 * cellsAt(0)) return place;
  }
  return DATA.studies.some((study) => study.rungs.length) ? 1 : 0;
}
chosen.place = firstPlace();
if (DATA.studies.every((study) => study.unit === "seconds")) chosen.unit = "seconds";

// "at rung 2 (1,800 examples)": a place within a sentence.
function placeText() {
  const [, name, amount] = /^(.*?): (.*)$/.exec(DATA.places[chosen.place]) || [];
  return name ? `at ${name} (${amount})` : "by best value so far";
}

function better(a, b) {
  return LESS ? a - b : b - a;
}

const COUNT = new Intl.NumberFormat("en");

function number(value, digits = 4) {
  if (typeof value !== "number" || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return COUNT.format(value);
  if (size && (size < 1e-3 || size >= 1e7))
    return value.toExponential(digits - 2).replace("e+", "e");
  return size >= 1000 ? COUNT.format(Math.round(value)) : String(Number(value.toPrecision(digits)));
}

// A value of the metric: errors in per cent, like the sentences at the top.
function metricText(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return NONE;
  if (DATA.metric === "error") return `${(100 * value).toFixed(2)} %`;
  return Math.abs(value) >= 10 ? value.toFixed(2) : number(value);
}

function intervalText(found) {
  if (!found || found.low === null) return NONE;
  return `${metricText(found.low).replace(" %", "")} – ${metricText(found.high)}`;
}

// A value of a parameter.
function valueText(value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "number") return number(value, 3);
  return typeof value === "string" ? value : JSON.stringify(value);
}

function secondsText(seconds) {
  if (typeof seconds !== "number") return NONE;
  if (seconds >= 100 && seconds < 600) return `${(seconds / 60).toFixed(1)} min`;
  if (seconds < 100) return `${number(seconds, 3)} s`;
  const whole = Math.round(seconds / 60);
  return whole < 120
    ? `${whole} min`
    : `${Math.floor(whole / 60)} h ${String(whole % 60).padStart(2, "0")} min`;
}

function momentText(time) {
  return typeof time === "number"
    ? new Date(1000 * time).toISOString().slice(0, 19).replace("T", " ")
    : NONE;
}

// An element; texts become text nodes, so no name can be markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function options(select, texts, value) {
  select.replaceChildren(...texts.map(([key, text]) => make("option", { value: key }, text)));
  select.value = String(value);
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// [best, limit]: a value beyond the limit is drawn at it, so that one trial that went astray does
// not press all others together.
function frame(values) {
  const sorted = values.slice().sort(better);
  if (!sorted.length) return [0, 1];
  const best = sorted[0],
    worst = sorted[sorted.length - 1];
  const reach = best + 4 * (quantile(sorted, 0.5) - best);
  const limit = better(worst, reach) > 0 && reach !== best ? reach : worst;
  return [best, limit === best ? best + (LESS ? 1e-9 : -1e-9) : limit];
}

// How far a value lies from the best of its frame to the limit: 0 … 1.
function depth(value, [best, limit]) {
  return Math.min(1, Math.max(0, (value - best) / (limit - best)));
}

const DARK = matchMedia("(prefers-color-scheme: dark)");
// Viridis: even in lightness, so it reads without colours too. The best stands out from the page.
const VIRIDIS = [
  "#440154",
  "#482878",
  "#3e4989",
  "#31688e",
  "#26828e",
  "#1f9e89",
  "#35b779",
  "#6ece58",
  "#b5de2b",
  "#fde725",
];

function scheme() {
  return DARK.matches ? VIRIDIS.slice(2).reverse() : VIRIDIS.slice(0, 9);
}

function colour(share) {
  const stops = scheme(),
    place = share * (stops.length - 1);
  const lower = Math.min(stops.length - 2, Math.floor(place));
  const [a, b] = [stops[lower], stops[lower + 1]].map((stop) =>
    [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)),
  );
  return a.map((part, i) => Math.round(part + (place - lower) * (b[i] - part)));
}

// Black or white, whichever has the higher contrast (WCAG's relative luminance).
function inkOn(rgb) {
  const [r, g, b] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}
