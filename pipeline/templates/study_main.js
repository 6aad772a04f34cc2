"use strict";
// Which charts the page has, and what each of them says in words.

function valued() {
  return TRIALS.filter((trial) => compared(trial));
}

function note(id, text) {
  byId(id).textContent = text;
}

function noteCost() {
  const points = DATA.studies.map((study, s) => {
    const ids = study.fronts[chosen.place][chosen.cost];
    const own = TRIALS.filter((trial) => trial.study === s && ids.includes(trial.number));
    const told = own
      .map((trial) => [compared(trial), trial])
      .sort((a, b) => a[0][chosen.cost] - b[0][chosen.cost]);
    const show = (at) =>
      `${metricText(at.value)} for ${chosen.cost === "seconds" ? secondsText(at.seconds) : `${number(at[chosen.cost], 3)} ${chosen.cost === "flops" ? "operations" : chosen.cost}`}`;
    if (!told.length) return "";
    const ends =
      told.length > 1
        ? `${show(told[0][0])} up to ${show(told[told.length - 1][0])}`
        : show(told[0][0]);
    return `${DATA.compare ? `${study.name}: ` : ""}${told.length} of them ${told.length > 1 ? "are" : "is"} on the front, from ${ends}.`;
  });
  note(
    "cost-note",
    `Each point is a trial ${placeText()}; the line joins those that no other beats in both ${DATA.metric} and cost. ${points.join(" ")} ` +
      `Values that lie far beyond the others are triangles at the edge. The table below has all of it.`,
  );
}

function noteCurves() {
  const all = TRIALS.filter((trial) => compared(trial, 0)).length,
    drawn = curveTrials().length;
  const count = (status) => TRIALS.filter((trial) => trial.status === status).length;
  const shapes = [
    ["stopped", "squares"],
    ["failed", "crosses"],
  ].filter(([status]) => count(status));
  const ends = shapes
    .map(([status, shape]) => `; ${shape}: ends of ${number(count(status))} ${status}`)
    .join("");
  note(
    "curves-note",
    `${number(drawn)}${drawn < all ? ` of ${number(all)}` : ""} trials${ends}${rungRows(chosen.unit).length ? "; dashed lines are the rungs" : ""}. ` +
      `What lies far above or below the others is cut off.`,
  );
}

function noteImportance() {
  const lists = DATA.studies.map((study) => {
    const shares = DATA.keys.map((key, i) => [key.label, study.importance[chosen.place][i]]);
    const told = shares.filter(([, share]) => share !== null).sort((a, b) => b[1] - a[1]);
    const text = told.map(([label, share]) => `${label} ${Math.round(100 * share)} %`).join(", ");
    return `${DATA.compare ? `${study.name}: ` : ""}${text || "too few trials to tell"}`;
  });
  note(
    "importance-note",
    `Share of the variance of the ranks of ${number(valued().length)} trials that a parameter explains by itself, compared ${placeText()}. ${lists.join("; ")}.`,
  );
}

function noteSlices() {
  note(
    "slices-note",
    `The ${DATA.metric} of ${number(valued().length)} trials against each parameter, ${placeText()}; ticks and lines are the medians of each level.`,
  );
}

function noteParallel() {
  const all = valued().length,
    drawn = parallelTrials().length;
  note(
    "parallel-note",
    `A line for each of ${number(drawn)}${drawn < all ? ` of ${number(all)}` : ""} trials, ${placeText()}; the last axis is the ${DATA.metric}, the best on top and in the colour of the map's best.`,
  );
}

function startCharts() {
  const any = (spec) => () => (valued().length ? spec() : null);
  options(
    byId("cost"),
    DATA.costs.map((name) => [name, COSTS[name]]),
    chosen.cost,
  );
  byId("cost").addEventListener("change", (event) => choose({ cost: event.target.value }));
  byId("curves-unit").value = chosen.unit;
  byId("curves-unit").addEventListener("change", (event) => choose({ unit: event.target.value }));
  addChart("cost-chart", {
    spec: () => (costRows().rows.length ? costSpec() : null),
    note: noteCost,
    follows: ["place", "cost", "one"],
  });
  addChart("curves-chart", {
    spec: () => (curveTrials().length ? curvesSpec() : null),
    note: noteCurves,
    follows: ["unit", "one"],
  });
  addChart("importance-chart", {
    spec: () => (importanceRows().length ? importanceSpec() : null),
    note: noteImportance,
    follows: ["place"],
  });
  DATA.keys.forEach((key, i) => {
    const id = `slice-${i}`;
    byId("slices").append(
      make(
        "figure",
        {},
        make("h3", {}, key.label),
        make("div", {
          class: "chart",
          id,
          role: "img",
          "aria-label": `${DATA.metric} against ${key.label}`,
        }),
      ),
    );
    addChart(id, { spec: any(() => sliceSpec(i)), note: noteSlices, follows: ["place"] });
  });
  addChart("parallel-chart", { spec: any(parallelSpec), note: noteParallel, follows: ["place"] });
  for (const chart of CHARTS.values()) chart.note();
  if (shownTrial) window.drawTrial(shownTrial);
}
startCharts();
