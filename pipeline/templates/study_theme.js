"use strict";
// What all charts share: the page's colours, the scale of the metric, what a point tells.

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// All charts: colours of the page, no frame, and nothing for screen readers, who have the notes.
function themed(spec) {
  const [text, quiet, line] = [ink("ink"), ink("quiet"), ink("line")];
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: null,
    width: "container",
    height: 320,
    padding: 4,
    autosize: { type: "fit-x", contains: "padding" },
    ...spec,
    // A layer without any row has no extent, of which Vega-Lite would warn.
    layer: spec.layer.filter((layer) => !layer.data || layer.data.values.length),
    config: {
      aria: false,
      font,
      view: { stroke: null },
      axis: {
        labelColor: quiet,
        titleColor: quiet,
        gridColor: line,
        domainColor: line,
        tickColor: line,
        labelFontSize: 12,
        titleFontSize: 12,
        titleFontWeight: "normal",
        labelOverlap: "greedy",
      },
      legend: {
        labelColor: text,
        titleColor: quiet,
        labelFontSize: 12,
        titleFontSize: 12,
        titleFontWeight: "normal",
        orient: "top",
        direction: "horizontal",
        symbolOpacity: 1,
        columns: innerWidth < 500 ? 3 : 8,
      },
      ...spec.config,
    },
  };
}

// Colours for the levels of a key that is a list or was cut into bins.
function levelColours(count) {
  return Array.from(
    { length: count },
    (_, i) => `rgb(${colour(count > 1 ? 1 - i / (count - 1) : 0)})`,
  );
}

// By study where there are several, else by the level of the map's rows.
function colourBy() {
  const key = DATA.keys[chosen.one];
  const names = DATA.compare ? DATA.studies.map((study) => study.name) : key.names;
  const range = DATA.compare
    ? DATA.studies.map((_, i) => ink(`study-${i % 4}`))
    : levelColours(names.length);
  return {
    field: "group",
    type: "nominal",
    title: DATA.compare ? "study" : key.label,
    sort: null,
    scale: { domain: names, range },
  };
}

function groupOf(trial) {
  if (DATA.compare) return DATA.studies[trial.study].name;
  return DATA.keys[chosen.one].names[trial.levels[chosen.one]] ?? NONE;
}

// A scale of the metric from the best to the limit of `frame`, with some air around.
function metricScale([best, limit]) {
  const air = 0.04 * Math.abs(limit - best);
  const ends = LESS ? [best - air, limit + air] : [limit - air, best + air];
  if (DATA.metric === "error") ends[0] = Math.max(0, ends[0]);
  return { domain: ends, nice: false, zero: false };
}

function metricAxis(extra = {}) {
  return {
    title: `${DATA.metric} (validation)`,
    format: DATA.metric === "error" ? ".3~p" : "~g",
    ...extra,
  };
}

function clamped(value, [, limit]) {
  return better(value, limit) > 0 ? limit : value;
}

const TOOLTIP = [
  { field: "trial", type: "nominal" },
  { field: "values", type: "nominal", title: "with" },
  { field: "text", type: "nominal", title: DATA.metric },
  { field: "spent", type: "nominal", title: "after" },
];

function described(trial, at) {
  return {
    id: trial.id,
    trial: trial.id,
    group: groupOf(trial),
    text: `${metricText(at.value)} (${intervalText(at)})`,
    values: DATA.keys.map((key, i) => `${key.label} ${valueText(trial.values[i])}`).join(", "),
    spent: `${number(at.examples)} examples, ${secondsText(at.seconds)}`,
  };
}

const COSTS = {
  seconds: "seconds of training",
  examples: "examples seen",
  flops: "floating-point operations",
};

function costAxis(unit) {
  return {
    title: COSTS[unit],
    format: unit === "seconds" ? ",.3~r" : "~s",
    tickCount: 6,
    labelFlush: true,
  };
}

// At most so many curves are drawn: those of the best, then evenly from the others.
function some(trials, most) {
  if (trials.length <= most) return trials;
  const ranked = trials.slice().sort((a, b) => better(compared(a, 0).value, compared(b, 0).value));
  const rest = ranked.slice(most / 2),
    each = rest.length / (most / 2);
  return [
    ...ranked.slice(0, most / 2),
    ...Array.from({ length: most / 2 }, (_, i) => rest[Math.floor(i * each)]),
  ];
}
