"use strict";
// All parameters at once: a line for each trial, as a Vega-Lite specification.

// Where a trial's value lies on an axis, 0 … 1 from bottom to top; null for none.
function height(trial, place) {
  const key = DATA.keys[place],
    value = trial.values[place];
  if (trial.levels[place] < 0) return null;
  if (key.kind === "listed") {
    // Lines through one level are spread a little, so that their number can be seen.
    const spread = 0.05 * (jitter(trial.number) - 0.5);
    return (key.names.length > 1 ? trial.levels[place] / (key.names.length - 1) : 0.5) + spread;
  }
  const [low, high] = [key.edges[0], key.edges[key.edges.length - 1]];
  const on = key.kind === "log" ? Math.log : (x) => x;
  return Math.min(1, Math.max(0, (on(value) - on(low)) / (on(high) - on(low))));
}

function axisLabels(edges, beyond) {
  const rows = DATA.keys.flatMap((key) => {
    const count = key.kind === "listed" ? key.names.length : key.edges.length;
    return Array.from({ length: count }, (_, i) => ({
      axis: key.label,
      y: count > 1 ? i / (count - 1) : 0.5,
      text: key.kind === "listed" ? key.names[i] : number(key.edges[i], 2),
    }));
  });
  const last = [
    [1, metricText(edges[0])],
    [0, (beyond ? (LESS ? "≥ " : "≤ ") : "") + metricText(edges[1])],
  ];
  return [...rows, ...last.map(([y, text]) => ({ axis: DATA.metric, y, text }))];
}

function parallelTrials() {
  return some(
    TRIALS.filter((trial) => compared(trial)),
    600,
  );
}

function parallelRows(trials, names, edges) {
  return trials
    .flatMap((trial) => {
      const at = compared(trial),
        share = depth(at.value, edges),
        told = described(trial, at);
      const places = [...DATA.keys.map((_, i) => height(trial, i)), 1 - share];
      return names.map((axis, i) => ({ ...told, axis, y: places[i], share }));
    })
    .filter((row) => row.y !== null);
}

function parallelAxis(names) {
  return {
    field: "axis",
    type: "ordinal",
    sort: null,
    scale: { type: "point", domain: names, padding: 0.35 },
    axis: {
      orient: "top",
      title: null,
      labelAngle: 0,
      domain: false,
      ticks: false,
      labelColor: ink("ink"),
      labelFontSize: 13,
      labelOverlap: false,
      labelLimit: 130,
      labelPadding: 10,
    },
  };
}

// Lines of the axes and their labels, which a halo sets off from the trials' lines.
function axisLayers(names, labels, x, y) {
  const halo = { type: "text", align: "left", dx: 6, fontSize: 12, fontWeight: 600 };
  return [
    {
      data: { values: names.map((axis) => ({ axis })) },
      mark: { type: "rule", color: ink("quiet") },
      encoding: { x },
    },
    {
      data: { values: labels },
      mark: { ...halo, color: ink("page"), stroke: ink("page"), strokeWidth: 4 },
      encoding: { x, y, text: { field: "text" } },
    },
    {
      data: { values: labels },
      mark: { ...halo, color: ink("ink") },
      encoding: { x, y, text: { field: "text" } },
    },
  ];
}

function parallelSpec() {
  const trials = parallelTrials().sort((a, b) => better(compared(b).value, compared(a).value));
  const edges = frame(trials.map((trial) => compared(trial).value));
  const beyond = trials.some((trial) => better(compared(trial).value, edges[1]) > 0);
  const names = [...DATA.keys.map((key) => key.label), DATA.metric];
  const x = parallelAxis(names);
  const y = {
    field: "y",
    type: "quantitative",
    scale: { domain: [-0.03, 1.03], nice: false },
    axis: null,
  };
  return themed({
    height: 330,
    width: Math.max(byId("parallel-chart").parentElement.clientWidth - 12, 118 * names.length),
    autosize: { type: "fit", contains: "padding" },
    layer: [
      {
        data: { values: parallelRows(trials, names, edges) },
        mark: {
          type: "line",
          strokeWidth: trials.length > 100 ? 1 : 1.6,
          opacity: trials.length > 100 ? 0.45 : 0.8,
          cursor: "pointer",
        },
        encoding: {
          x,
          y,
          detail: [{ field: "id" }],
          tooltip: TOOLTIP,
          color: {
            field: "share",
            type: "quantitative",
            legend: null,
            scale: { domain: [0, 1], range: scheme() },
          },
        },
      },
      ...axisLayers(names, axisLabels(edges, beyond), x, y),
    ],
  });
}
