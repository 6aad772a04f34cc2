"use strict";
// Charts of parameters: importance, and slices through each, as Vega-Lite specifications.

function importanceRows() {
  return DATA.studies
    .flatMap((study) =>
      DATA.keys.map((key, i) => ({
        key: key.label,
        group: study.name,
        share: study.importance[chosen.place][i],
      })),
    )
    .filter((row) => row.share !== null);
}

function importanceSpec() {
  const rows = importanceRows();
  const order = DATA.keys.map((key, i) => [
    key.label,
    Math.max(...DATA.studies.map((study) => study.importance[chosen.place][i] ?? -1)),
  ]);
  const sort = order.sort((a, b) => b[1] - a[1]).map(([label]) => label);
  const y = {
    field: "key",
    type: "nominal",
    sort,
    axis: {
      title: null,
      labelFontSize: 13,
      labelColor: ink("ink"),
      labelLimit: 150,
      domain: false,
      ticks: false,
    },
  };
  const x = {
    field: "share",
    type: "quantitative",
    scale: { domain: [0, Math.max(0.1, ...rows.map((row) => row.share)) * 1.12] },
    axis: { title: "share of the variance of ranks", format: ".0%", tickCount: 5 },
  };
  const beside = DATA.compare ? { yOffset: { field: "group", sort: null } } : {};
  const colour = DATA.compare ? { ...colourBy(), legend: {} } : { value: ink("link") };
  return themed({
    data: { values: rows },
    height: (DATA.compare ? 20 * DATA.studies.length + 8 : 32) * DATA.keys.length,
    encoding: { x, y, ...beside },
    layer: [
      { mark: { type: "bar", height: { band: 0.7 } }, encoding: { color: colour } },
      {
        mark: { type: "text", align: "left", dx: 5, color: ink("ink"), fontSize: 12 },
        encoding: { text: { field: "share", format: ".0%" } },
      },
    ],
  });
}

function median(values) {
  const sorted = values.slice().sort((a, b) => a - b),
    half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// Where in a bin of a range its median is drawn: the middle of the bin on the key's own scale.
function middle(key, level) {
  const [low, high] = [key.edges[level], key.edges[level + 1]];
  return key.kind === "log" ? Math.sqrt(low * high) : (low + high) / 2;
}

// Even spread, the same at every drawing.
function jitter(i) {
  return (i * 0.618034) % 1;
}

function sliceRows(place) {
  const found = TRIALS.map((trial) => [trial, compared(trial)]).filter(
    ([trial, at]) => at && trial.levels[place] >= 0,
  );
  const edges = frame(found.map(([, at]) => at.value)),
    key = DATA.keys[place];
  const rows = found.map(([trial, at], i) => ({
    ...described(trial, at),
    x: key.kind === "listed" ? key.names[trial.levels[place]] : trial.values[place],
    y: clamped(at.value, edges),
    study: DATA.studies[trial.study].name,
    jitter: jitter(i),
  }));
  const medians = DATA.studies
    .flatMap((study, s) =>
      key.names.map((name, level) => {
        const values = found
          .filter(([trial]) => trial.study === s && trial.levels[place] === level)
          .map(([, at]) => at.value);
        return values.length
          ? {
              study: study.name,
              group: study.name,
              x: key.kind === "listed" ? name : middle(key, level),
              y: clamped(median(values), edges),
              text: metricText(median(values)),
              trial: `median of ${values.length}`,
            }
          : null;
      }),
    )
    .filter(Boolean);
  return { rows, medians, edges };
}

function sliceAxis(key) {
  return key.kind === "listed"
    ? {
        field: "x",
        type: "nominal",
        sort: null,
        scale: { domain: key.names, paddingInner: 0.3 },
        axis: { title: null, labelAngle: 0, grid: false },
      }
    : {
        field: "x",
        type: "quantitative",
        scale: {
          type: key.kind,
          domain: [key.edges[0], key.edges[key.edges.length - 1]],
          nice: false,
        },
        axis: {
          title: null,
          format: key.kind === "log" ? "~g" : ",.3~r",
          tickCount: 5,
          labelFlush: true,
        },
      };
}

function sliceSpec(place) {
  const key = DATA.keys[place],
    { rows, medians, edges } = sliceRows(place);
  const listed = key.kind === "listed";
  const x = sliceAxis(key);
  const y = {
    field: "y",
    type: "quantitative",
    scale: metricScale(edges),
    axis: metricAxis({ title: null }),
  };
  const points = DATA.compare ? { ...colourBy(), legend: null } : { value: ink("link") };
  const offset = listed
    ? { xOffset: { field: "jitter", type: "quantitative", scale: { domain: [0, 1] } } }
    : {};
  const centre = listed ? { xOffset: { datum: 0.5, type: "quantitative" } } : {};
  const by = DATA.compare ? { color: points } : {};
  return themed({
    height: 190,
    layer: [
      {
        data: { values: rows },
        mark: {
          type: "point",
          filled: true,
          size: 22,
          opacity: rows.length > 300 ? 0.3 : 0.6,
          cursor: "pointer",
        },
        encoding: { x, y, ...offset, color: points, tooltip: TOOLTIP },
      },
      {
        data: { values: medians },
        mark: {
          type: listed ? "tick" : "line",
          color: ink("ink"),
          thickness: 2.5,
          strokeWidth: 2,
          ...(listed
            ? { orient: "horizontal", size: 30 }
            : { point: { size: 36, color: ink("ink") } }),
        },
        encoding: {
          x,
          y,
          ...centre,
          ...by,
          detail: { field: "study" },
          tooltip: [
            { field: "trial", title: "what" },
            { field: "text", title: DATA.metric },
          ],
        },
      },
    ],
  });
}
