"use strict";
// The map of any two keys: a table whose cells hold the best value, its interval and the count.

// "level,level" → {best trial, count, low, high} of one study's trials at the chosen place.
function cellsOf(study, one, other) {
  const found = new Map();
  for (const trial of TRIALS) {
    const [a, b] = [trial.levels[one], trial.levels[other]];
    if (trial.study !== study || a < 0 || b < 0) continue;
    const cell = found.get(`${a},${b}`) || {
      best: null,
      count: 0,
      all: 0,
      low: Infinity,
      high: -Infinity,
    };
    found.set(`${a},${b}`, cell);
    cell.all += 1;
    const at = compared(trial);
    if (!at) continue;
    cell.count += 1;
    cell.low = Math.min(cell.low, at.value);
    cell.high = Math.max(cell.high, at.value);
    if (!cell.best || better(at.value, cell.value) < 0)
      Object.assign(cell, { best: trial, value: at.value });
  }
  return found;
}

function cellOf(cell, edges, first) {
  if (!cell || !cell.best)
    return make(
      "td",
      { class: "empty" },
      NONE,
      cell ? make("span", {}, `none of ${number(cell.all)} came here`) : null,
    );
  const rgb = colour(depth(cell.value, edges)),
    at = compared(cell.best);
  const range =
    cell.count > 1 ? `${metricText(cell.low).replace(" %", "")} … ${metricText(cell.high)}` : null;
  const link = make(
    "a",
    {
      href: `#trial-${cell.best.id}`,
      "aria-label": `${metricText(cell.value)}, trial ${cell.best.id}`,
    },
    metricText(cell.value),
  );
  const td = make(
    "td",
    { class: cell === first ? "best" : null },
    link,
    make("span", {}, intervalText(at)),
    make("span", {}, `${number(cell.count)} of ${number(cell.all)} trials`),
    range && make("span", { class: "range", title: "least … greatest of its trials" }, range),
  );
  td.style.backgroundColor = `rgb(${rgb})`;
  td.style.color = inkOn(rgb);
  return td;
}

function mapOf(study, cells, edges) {
  const [one, other] = [DATA.keys[chosen.one], DATA.keys[chosen.other]];
  const first = [...cells.values()]
    .filter((cell) => cell.best)
    .sort((a, b) => better(a.value, b.value))[0];
  const head = make(
    "tr",
    {},
    make("th", { scope: "col" }, `${one.label} ↓ ${other.label} →`),
    ...other.names.map((name) => make("th", { scope: "col" }, name)),
  );
  const rows = one.names.map((name, a) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, name),
      ...other.names.map((_, b) => cellOf(cells.get(`${a},${b}`), edges, first)),
    ),
  );
  const title = `${DATA.metric} by ${one.label} and ${other.label}`;
  const caption = make(
    "caption",
    { class: DATA.compare ? null : "hidden" },
    DATA.compare ? DATA.studies[study].name : title,
  );
  const table = make(
    "table",
    { class: "map" },
    caption,
    make("thead", {}, head),
    make("tbody", {}, ...rows),
  );
  return make(
    "div",
    { class: "wide", role: "region", tabindex: "0", "aria-label": `Map: ${title}` },
    table,
  );
}

function showMap() {
  const all = DATA.studies.map((_, study) => cellsOf(study, chosen.one, chosen.other));
  const values = all.flatMap((cells) =>
    [...cells.values()].filter((cell) => cell.best).map((cell) => cell.value),
  );
  const edges = frame(values);
  byId("map").replaceChildren(...all.map((cells, study) => mapOf(study, cells, edges)));
  const here = TRIALS.filter((trial) => compared(trial)).length;
  byId("map-note").textContent =
    `Best ${DATA.metric} of each cell on the validation split, its 95 % interval, how many of its trials came to the place of comparison, ` +
    `and the least and greatest value of these. ${number(here)} of ${number(TRIALS.length)} trials have a value${chosen.place ? ` ${placeText()}` : ""}. The best cell is framed.`;
  showLegend(
    edges,
    values.length > 1,
    values.some((value) => better(value, edges[1]) > 0),
  );
}

function showLegend([best, limit], shown, beyond) {
  const stops = scheme();
  const bar = make("span", { class: "bar" });
  bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  byId("map-legend").replaceChildren(
    ...(shown
      ? [metricText(best), bar, metricText(limit) + (beyond ? ` or ${LESS ? "more" : "less"}` : "")]
      : []),
  );
}

function startMap() {
  const keys = DATA.keys.map((key, i) => [i, key.label]);
  options(byId("map-one"), keys, chosen.one);
  options(byId("map-other"), keys, chosen.other);
  options(
    byId("place"),
    DATA.places.map((title, i) => [i, title]),
    chosen.place,
  );
  for (const [id, name] of [
    ["map-one", "one"],
    ["map-other", "other"],
    ["place", "place"],
  ]) {
    byId(id).addEventListener("change", (event) => choose({ [name]: Number(event.target.value) }));
  }
  listeners.push((names) => {
    if (names.some((name) => ["one", "other", "place"].includes(name))) showMap();
  });
  DARK.addEventListener("change", showMap);
  showMap();
  performance.mark("map");
}
startMap();
