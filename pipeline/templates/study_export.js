"use strict";
// What the reader sees, as files that the browser makes: CSV and JSON of the trials in the table.

function save(name, kind, text) {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function fileName(ending) {
  return `${DATA.studies.map((study) => study.id).join("--")}.${ending}`;
}

// A field as RFC 4180 has it. A text that a spreadsheet would take for a formula gets a quote
// before it; numbers stay numbers.
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  let text = typeof value === "string" ? value : JSON.stringify(value);
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// One trial as name → value: what the table has, with full digits.
function exported(trial) {
  const at = compared(trial) || {};
  return {
    ...(DATA.compare ? { study: DATA.studies[trial.study].id } : {}),
    trial: trial.number,
    status: trial.status,
    reason: trial.reason,
    ...Object.fromEntries(DATA.keys.map((key, i) => [key.path, trial.values[i]])),
    seed: trial.seed,
    run: trial.run,
    compared_at: DATA.places[chosen.place],
    [DATA.metric]: at.value ?? null,
    low: at.low ?? null,
    high: at.high ?? null,
    examples: trial.examples,
    seconds: trial.seconds,
    parameters: trial.parameters,
    flops_an_example: trial.flops,
    test: trial.test,
    crashes: trial.crashes,
  };
}

function asCsv(trials) {
  const rows = trials.map(exported);
  const names = Object.keys(exported(TRIALS[0] || { at: [], values: [], study: 0 }));
  return [names.map(field), ...rows.map((row) => names.map((name) => field(row[name])))]
    .map((row) => `${row.join(",")}\r\n`)
    .join("");
}

function asJson(trials) {
  return `${JSON.stringify(
    trials.map((trial) => ({ ...exported(trial), curve: trial.curve })),
    null,
    1,
  )}\n`;
}

byId("export-csv").addEventListener("click", () =>
  save(fileName("csv"), "text/csv;charset=utf-8", asCsv(view.rows)),
);
byId("export-json").addEventListener("click", () =>
  save(fileName("json"), "application/json", asJson(view.rows)),
);
