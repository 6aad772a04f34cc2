"use strict";
// What a search finds: words, and comparisons such as lr<0.01.

// The column that a word such as steps, model.steps or "glimpses" means; the metric by its name.
function columnOf(word) {
  const wanted = word.toLowerCase();
  const names = (column) => [
    column.name,
    column.name.split(".").pop(),
    column.title.toLowerCase().replaceAll(" ", "_"),
  ];
  return COLUMNS.find((column) => names(column).includes(wanted)) || null;
}

// A test for each word of the search: a comparison such as lr<0.01, or a part of any column's text.
function tests(text) {
  return text
    .trim()
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      const parts = /^([\w.]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word);
      const column = parts && columnOf(parts[1]);
      if (!column) {
        const wanted = word.toLowerCase();
        return (trial) => trial.words.includes(wanted);
      }
      const percent =
        DATA.metric === "error" &&
        ["value", "test"].includes(column.name) &&
        parts[3].endsWith("%");
      const wanted = percent ? parseFloat(parts[3]) / 100 : Number(parts[3]);
      return (trial) => holds(column.of(trial), parts[2], wanted, parts[3]);
    });
}

function holds(value, sign, wanted, text) {
  if (value === null || value === undefined) return sign === "!=";
  if (typeof value !== "number" || Number.isNaN(wanted)) {
    const same = valueText(value).toLowerCase() === text.toLowerCase();
    return sign === "=" ? same : sign === "!=" ? !same : false;
  }
  return {
    "<": value < wanted,
    "<=": value <= wanted,
    ">": value > wanted,
    ">=": value >= wanted,
    "=": value === wanted,
    "!=": value !== wanted,
  }[sign];
}

function wordsOf(trial) {
  const values = DATA.keys.map((key, i) => valueText(trial.values[i]));
  const study = DATA.studies[trial.study];
  return [`trial-${trial.id}`, trial.status, trial.reason, trial.run, study.name, ...values]
    .join(" ")
    .toLowerCase();
}
for (const trial of TRIALS) trial.words = wordsOf(trial);

function refilter() {
  const status = byId("status").value,
    wanted = tests(byId("search").value);
  view.rows = TRIALS.filter(
    (trial) => (!status || trial.status === status) && wanted.every((test) => test(trial)),
  );
  view.rows.sort(order);
  view.page = 0;
  showRows();
}
