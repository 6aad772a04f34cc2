"use strict";
// Charts over time: the value against its cost, and learning curves, as Vega-Lite specifications.

function costRows() {
  const found = TRIALS.map((trial) => [trial, compared(trial)]).filter(
    ([, at]) => at && at[chosen.cost] > 0,
  );
  const edges = frame(found.map(([, at]) => at.value));
  const rows = found.map(([trial, at]) => ({
    ...described(trial, at),
    x: at[chosen.cost],
    y: clamped(at.value, edges),
    low: at.low,
    high: at.high === null ? null : clamped(at.high, edges),
    beyond: better(at.value, edges[1]) > 0,
    study: DATA.studies[trial.study].name,
    front: DATA.studies[trial.study].fronts[chosen.place][chosen.cost].includes(trial.number),
  }));
  return { rows, edges };
}

function costSpec() {
  const { rows, edges } = costRows();
  const x = {
    field: "x",
    type: "quantitative",
    scale: { type: "log", nice: false, padding: 12 },
    axis: costAxis(chosen.cost),
  };
  // Whole intervals of the front are inside the frame.
  const ends = rows
    .filter((row) => row.front && row.low !== null)
    .map((row) => (LESS ? row.low : row.high));
  const best = [edges[0], ...ends].sort(better)[0];
  const y = {
    field: "y",
    type: "quantitative",
    scale: metricScale([best, edges[1]]),
    axis: metricAxis(),
  };
  return themed({
    data: { values: rows },
    encoding: { x, y },
    layer: [costLine(), costPoints(rows.length), ...costFront()],
  });
}

const FRONT = [{ filter: "datum.front" }];

function costLine() {
  const apart = DATA.compare ? { detail: { field: "study", type: "nominal" } } : {};
  return {
    transform: FRONT,
    mark: { type: "line", interpolate: "step-after", color: ink("ink"), strokeWidth: 1.5 },
    encoding: { ...apart, order: { field: "x", type: "quantitative" } },
  };
}

function costPoints(count) {
  return {
    mark: {
      type: "point",
      filled: true,
      size: 34,
      opacity: count > 300 ? 0.55 : 0.85,
      cursor: "pointer",
    },
    encoding: {
      color: colourBy(),
      tooltip: TOOLTIP,
      shape: {
        field: "beyond",
        type: "nominal",
        legend: null,
        scale: {
          domain: [false, true],
          range: ["circle", LESS ? "triangle-up" : "triangle-down"],
        },
      },
    },
  };
}

// The front's intervals, and its points above all others.
function costFront() {
  return [
    {
      transform: [...FRONT, { filter: "isValid(datum.low)" }],
      mark: { type: "rule", color: ink("ink") },
      encoding: { y: { field: "low", type: "quantitative" }, y2: { field: "high" } },
    },
    {
      transform: FRONT,
      mark: {
        type: "point",
        filled: true,
        size: 64,
        stroke: ink("ink"),
        strokeWidth: 1.5,
        cursor: "pointer",
        opacity: 1,
      },
      encoding: { color: colourBy(), tooltip: TOOLTIP },
    },
  ];
}

function curveTrials(most = 1200) {
  return some(
    TRIALS.filter((trial) => trial.curve && compared(trial, 0)),
    most,
  );
}

function curveRows(trials, unit) {
  const at = unit === "seconds" ? 1 : 0;
  const edges = frame(
    trials.flatMap((trial) =>
      trial.curve.map((point) => point[2]).filter((value) => value !== null),
    ),
  );
  const rows = [],
    ends = [];
  for (const trial of trials) {
    const points = trial.curve.filter((point) => point[2] !== null && point[at] > 0);
    const told = described(trial, compared(trial, 0));
    for (const point of points)
      rows.push({
        ...told,
        x: point[at],
        y: point[2],
        text: metricText(point[2]),
        spent: `${number(point[0])} examples, ${secondsText(point[1])}`,
      });
    if (points.length && ["stopped", "failed"].includes(trial.status))
      ends.push({
        ...rows[rows.length - 1],
        y: clamped(points[points.length - 1][2], edges),
        status: trial.status,
      });
  }
  return { rows, ends, edges };
}

function rungRows(unit, studies = DATA.studies) {
  return studies
    .filter((study) => study.unit === unit)
    .flatMap((study) => study.rungs.map((x) => ({ x })));
}

function curvesSpec() {
  const trials = curveTrials();
  const { rows, ends, edges } = curveRows(trials, chosen.unit);
  return themed({ height: 360, layer: curveLayers(rows, ends, edges, chosen.unit, trials.length) });
}

function curveLayers(rows, ends, edges, unit, count) {
  const x = {
    field: "x",
    type: "quantitative",
    scale: { type: "log", nice: false },
    axis: costAxis(unit),
  };
  const y = { field: "y", type: "quantitative", scale: metricScale(edges), axis: metricAxis() };
  const opacity = count > 200 ? 0.25 : count > 40 ? 0.5 : 0.9;
  return [
    {
      data: { values: rungRows(unit) },
      mark: { type: "rule", color: ink("quiet"), strokeDash: [4, 4] },
      encoding: { x },
    },
    {
      data: { values: rows },
      mark: {
        type: "line",
        clip: true,
        opacity,
        strokeWidth: count > 40 ? 1 : 1.8,
        cursor: "pointer",
      },
      encoding: { x, y, detail: { field: "id" }, color: colourBy(), tooltip: TOOLTIP.slice(0, 2) },
    },
    {
      data: { values: ends },
      mark: {
        type: "point",
        filled: true,
        size: count > 200 ? 22 : 44,
        opacity: count > 200 ? 0.6 : 1,
        clip: true,
        cursor: "pointer",
      },
      encoding: {
        x,
        y,
        color: colourBy(),
        tooltip: TOOLTIP,
        shape: {
          field: "status",
          type: "nominal",
          title: "ended",
          scale: { domain: ["stopped", "failed"], range: ["square", "cross"] },
          legend: { symbolFillColor: ink("quiet") },
        },
      },
    },
  ];
}

// The curve of one trial before those of the best others.
function trialSpec(trial) {
  const others = curveTrials(24).filter((one) => one !== trial && one.study === trial.study);
  const { rows, edges } = curveRows([trial, ...others], chosen.unit);
  const [mine, theirs] = [
    rows.filter((row) => row.id === trial.id),
    rows.filter((row) => row.id !== trial.id),
  ];
  const [, line, end] = curveLayers(theirs, [], edges, chosen.unit, 999);
  delete end.encoding.shape;
  const plain = { ...line.encoding, color: { value: ink("quiet") } };
  return themed({
    height: 240,
    layer: [
      {
        ...curveLayers([], [], edges, chosen.unit, 1)[0],
        data: { values: rungRows(chosen.unit, [DATA.studies[trial.study]]) },
      },
      { ...line, encoding: plain },
      {
        ...line,
        data: { values: mine },
        mark: { type: "line", strokeWidth: 2.5, clip: true, point: { size: 40, filled: true } },
        encoding: { ...plain, color: { value: ink("link") } },
      },
    ],
  });
}
