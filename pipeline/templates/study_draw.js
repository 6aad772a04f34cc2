"use strict";
// When charts are drawn: as they come into view, again when what they follow changes, in the page's
// colours.

const CHARTS = new Map();
const waiting = new Set();

// `spec` makes the chart, `note` its summary in words, `follows` names what it depends on.
function addChart(id, chart) {
  CHARTS.set(id, { ...chart, seen: false, stale: true, drawn: null, turn: 0 });
  watcher.observe(byId(id));
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const chart = CHARTS.get(entry.target.id);
      chart.seen = entry.isIntersecting;
      if (chart.seen && chart.stale) draw(entry.target.id);
    }
  },
  { rootMargin: "250px" },
);

// One after the other, so that the page answers in between.
let drawing = Promise.resolve();

function draw(id) {
  const chart = CHARTS.get(id),
    turn = (chart.turn += 1);
  chart.stale = false;
  waiting.add(id);
  drawing = drawing
    .then(() => (turn === chart.turn ? render(id, chart) : null))
    .catch(trouble)
    .finally(() => waiting.delete(id));
}

async function render(id, chart) {
  const spec = chart.spec();
  if (chart.drawn) chart.drawn.finalize();
  chart.drawn = spec ? await embed(byId(id), spec) : null;
  if (!spec)
    byId(id).replaceChildren(make("p", { class: "quiet" }, "No trial has a value here yet."));
  if (!performance.getEntriesByName("chart").length) performance.mark("chart");
}

// Expressions are interpreted, not compiled, so the page allows no script to be made from text.
async function embed(element, spec) {
  const found = await vegaEmbed(element, spec, {
    actions: false,
    ast: true,
    renderer: "canvas",
    tooltip: { theme: DARK.matches ? "dark" : "light" },
    mode: "vega-lite",
  });
  found.view.addEventListener("click", (event, item) => {
    if (item && item.datum && item.datum.id && BY_ID.has(item.datum.id))
      location.hash = `trial-${item.datum.id}`;
  });
  return found;
}

function trouble(fault) {
  byId("trouble").textContent =
    `A chart could not be drawn (${fault.message}); the table has all trials.`;
  byId("trouble").hidden = false;
  console.error(fault);
}

function refresh(follows) {
  for (const [id, chart] of CHARTS) {
    if (follows && !chart.follows.some((name) => follows.includes(name))) continue;
    if (chart.note) chart.note();
    chart.stale = true;
    if (chart.seen) draw(id);
  }
}

let trialDrawn = null;
window.drawTrial = (trial) => {
  const place = byId("trial-chart");
  if (trialDrawn) trialDrawn.finalize();
  trialDrawn = null;
  if (!place || !compared(trial, 0)) return;
  drawing = drawing
    .then(async () => {
      if (place.isConnected) trialDrawn = await embed(place, trialSpec(trial));
    })
    .catch(trouble);
};

DARK.addEventListener("change", () => refresh(null));
listeners.push(refresh);
