"use strict";
// The table of trials: sorting, search, status, pages, and the keys that move in it.

const ROWS = innerWidth > 700 ? 50 : 20; // on a phone each is a card
const view = { sort: "value", down: false, page: 0, rows: [] };

// Columns: name, title, what it sorts by, what it shows, whether it is text.
const COLUMNS = [
  { name: "number", title: "trial", of: (t) => t.study * 1e9 + t.number, text: (t) => t.id },
  { name: "status", title: "status", of: (t) => t.status, words: true },
  {
    name: "value",
    title: DATA.metric,
    of: (t) => (compared(t) || {}).value,
    text: (t) => metricText((compared(t) || {}).value),
  },
  {
    name: "interval",
    title: "95 % interval",
    of: (t) => {
      const c = compared(t);
      return c && c.low !== null ? c.high - c.low : null;
    },
    text: (t) => intervalText(compared(t)),
  },
  ...DATA.keys.map((key, i) => ({
    name: key.path,
    title: key.label,
    of: (t) => t.values[i],
    text: (t) => valueText(t.values[i]),
    words: DATA.keys[i].kind === "listed" && TRIALS.some((t) => typeof t.values[i] === "string"),
  })),
  { name: "examples", title: "examples", of: (t) => t.examples, text: (t) => number(t.examples) },
  { name: "seconds", title: "time", of: (t) => t.seconds, text: (t) => secondsText(t.seconds) },
  { name: "test", title: "test", of: (t) => t.test, text: (t) => metricText(t.test) },
  {
    name: "reason",
    title: "reason, run",
    of: (t) => t.reason || null,
    text: (t) => t.reason || NONE,
    words: true,
  },
];
if (DATA.compare) {
  COLUMNS.splice(1, 0, {
    name: "study",
    title: "study",
    of: (t) => t.study,
    text: (t) => DATA.studies[t.study].name,
    words: true,
  });
}
function textOf(column, trial) {
  return column.text ? column.text(trial) : String(column.of(trial));
}

// Missing values come last in either direction; equal ones in the order of the trials.
function order(a, b) {
  const column = COLUMNS.find((one) => one.name === view.sort);
  const [x, y] = [column.of(a), column.of(b)];
  const missing = (value) => value === null || value === undefined || Number.isNaN(value);
  if (missing(x) || missing(y))
    return missing(x) - missing(y) || a.study - b.study || a.number - b.number;
  const sign = view.down ? -1 : 1;
  if (typeof x === "number" && typeof y === "number")
    return sign * (x - y) || a.study - b.study || a.number - b.number;
  return sign * String(x).localeCompare(String(y)) || a.study - b.study || a.number - b.number;
}

function showHead() {
  const cells = COLUMNS.map((column) => {
    const sorted = column.name === view.sort;
    const arrow = sorted ? (view.down ? " ↓" : " ↑") : "";
    const button = make(
      "button",
      { type: "button", "data-column": column.name },
      column.title + arrow,
    );
    button.addEventListener("click", () => {
      view.down = sorted ? !view.down : false;
      view.sort = column.name;
      view.rows.sort(order);
      view.page = 0;
      showHead();
      showRows();
      document.querySelector(`#trials th button[data-column="${CSS.escape(column.name)}"]`).focus();
    });
    const direction = sorted ? (view.down ? "descending" : "ascending") : null;
    return make(
      "th",
      { scope: "col", class: column.words ? "text" : null, "aria-sort": direction },
      button,
    );
  });
  document.querySelector("#trials thead").replaceChildren(make("tr", {}, ...cells));
}

function rowOf(trial) {
  const cells = COLUMNS.map((column) => {
    const text = textOf(column, trial),
      kind = [column.words && "text", column.name, text === NONE && "none"]
        .filter(Boolean)
        .join(" ");
    if (column.name === "number") {
      const mark = DATA.compare
        ? make("span", { class: `mark study-${trial.study}`, "aria-hidden": "true" })
        : null;
      return make(
        "th",
        { scope: "row", "data-label": "trial" },
        mark,
        make("a", { href: `#trial-${trial.id}` }, text),
      );
    }
    return make("td", { class: kind, "data-label": column.title }, text);
  });
  const row = make("tr", { "data-trial": trial.id, class: `is-${trial.status}` }, ...cells);
  if (trial.page) {
    const last = row.lastChild;
    last.classList.remove("none");
    if (!trial.reason) last.textContent = "";
    last.append(" ", make("a", { class: "run", href: runPage(trial) }, "page of its run"));
  }
  return row;
}

function runPage(trial) {
  return `../../runs/${encodeURIComponent(trial.run)}/index.html`;
}

function showRows() {
  const first = view.page * ROWS,
    rows = view.rows.slice(first, first + ROWS);
  document.querySelector("#trials tbody").replaceChildren(...rows.map(rowOf));
  const total = view.rows.length,
    of = total === TRIALS.length ? "" : ` of ${number(TRIALS.length)}`;
  byId("page-note").textContent = total
    ? `${number(first + 1)}–${number(first + rows.length)} of ${number(total)} trials${of && ` (${number(TRIALS.length)} in all)`}`
    : "No trial fits; clear the search to see all.";
  byId("earlier").disabled = view.page === 0;
  byId("later").disabled = first + ROWS >= total;
}

function turnPage(by) {
  view.page += by;
  showRows();
}

// Arrow keys move between the trials' links, over the edges of pages too.
function moveInTable(event) {
  const row = event.target.closest("tr[data-trial]");
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!row || !by || event.target.tagName !== "A") return;
  event.preventDefault();
  const place = view.rows.findIndex((trial) => trial.id === row.dataset.trial) + by;
  if (place < 0 || place >= view.rows.length) return;
  focusTrial(view.rows[place].id);
}

// Shows the page of the table that a trial is on and puts the focus on it.
function focusTrial(id) {
  const place = view.rows.findIndex((trial) => trial.id === id);
  if (place < 0) return;
  if (Math.floor(place / ROWS) !== view.page) {
    view.page = Math.floor(place / ROWS);
    showRows();
  }
  document.querySelector(`#trials tr[data-trial="${id}"] a`).focus();
}

function startTable() {
  const found = [...new Set(TRIALS.map((trial) => trial.status))];
  const count = (status) => TRIALS.filter((trial) => trial.status === status).length;
  options(
    byId("status"),
    [
      ["", `all (${number(TRIALS.length)})`],
      ...found.map((one) => [one, `${one} (${number(count(one))})`]),
    ],
    "",
  );
  view.down = !LESS;
  byId("status").addEventListener("change", refilter);
  byId("search").addEventListener("input", refilter);
  byId("earlier").addEventListener("click", () => turnPage(-1));
  byId("later").addEventListener("click", () => turnPage(1));
  const table = byId("trials");
  table.addEventListener("keydown", moveInTable);
  table.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-trial]");
    if (row && !event.target.closest("a")) location.hash = `trial-${row.dataset.trial}`;
  });
  listeners.push((names) => {
    if (!names.includes("place")) return;
    view.rows.sort(order);
    showRows();
  });
  showHead();
  refilter();
  performance.mark("table");
}
startTable();
