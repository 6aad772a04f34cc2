"use strict";
// One trial in a dialog: its values, curve, pictures, clock. Its address is #trial-<number>.

const dialog = byId("trial");
let shownTrial = null,
  cameFrom = null;

function facts(pairs) {
  return make(
    "dl",
    {},
    ...pairs.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))),
  );
}

// Seconds from the decision to the first step and from the last step to the end.
function clockFacts([decided, first, last, over]) {
  const gap = (from, to) =>
    from === null || to === null || from === undefined || to === undefined
      ? NONE
      : secondsText(Math.max(0, to - from));
  return [
    ["chosen (UTC)", momentText(decided)],
    ["until its first step", gap(decided, first)],
    ["first to last step", gap(first, last)],
    ["after its last step", gap(last, over)],
  ];
}

function picturesOf(trial) {
  const found = DATA.pictures[trial.study][trial.number] || [];
  if (!found.length) {
    const elsewhere = trial.page
      ? make("a", { href: runPage(trial) }, "the page of its run")
      : null;
    return [
      make(
        "p",
        { class: "quiet" },
        elsewhere ? "Its pictures are on " : "There are no pictures of it.",
        elsewhere,
        elsewhere ? "." : null,
      ),
    ];
  }
  return [
    make(
      "div",
      { class: "pictures beside" },
      ...found.map((one) =>
        make(
          "figure",
          {},
          pictureOf(one, trial),
          make("figcaption", {}, make("b", {}, `${one.title}.`), ` ${one.text}`),
        ),
      ),
    ),
  ];
}

// Who asked for less motion plays an animation by opening it.
function pictureOf(one, trial) {
  const image = make("img", { src: one.data, alt: `${one.title} of trial ${trial.id}` });
  const moves = one.data.startsWith("data:image/gif");
  if (!moves || !matchMedia("(prefers-reduced-motion: reduce)").matches) return image;
  return make("details", {}, make("summary", {}, "Play the animation"), image);
}

function bodyOf(trial) {
  const best = compared(trial, 0);
  const around = best && best.low !== null ? `, 95 % interval ${intervalText(best)}` : "";
  const run = make("code", {}, trial.run);
  return [
    make(
      "p",
      { class: trial.status === "failed" ? "warn" : "quiet" },
      make("b", {}, trial.status),
      trial.reason ? `: ${trial.reason}` : "",
    ),
    make(
      "p",
      { class: "headline" },
      make("strong", {}, metricText((best || {}).value)),
      `best ${DATA.metric} on validation${around}`,
    ),
    facts([
      ...DATA.keys.map((key, i) => [key.label, valueText(trial.values[i])]),
      ["seed", number(trial.seed)],
    ]),
    make("h3", {}, "Learning curve"),
    curveOf(trial),
    make("h3", {}, "Pictures"),
    ...picturesOf(trial),
    ...comparedOf(trial),
    make("h3", {}, "Cost and clock"),
    costOf(trial),
    ...termsOf(trial),
    make("p", {}, "Run ", trial.page ? make("a", { href: runPage(trial) }, run) : run),
  ];
}

function curveOf(trial) {
  if (trial.curve && trial.curve.length) {
    const label = curveText(trial);
    return make("div", { class: "chart", id: "trial-chart", role: "img", "aria-label": label });
  }
  const elsewhere = "Its reports are in trials.json beside this page.";
  return make("p", { class: "quiet" }, trial.examples ? elsewhere : "It has reported nothing.");
}

function comparedOf(trial) {
  const places = DATA.places
    .map((title, place) => [title, compared(trial, place)])
    .filter(([, found]) => found)
    .map(([title, found]) => [title, `${metricText(found.value)} (${intervalText(found)})`]);
  return [make("h3", {}, "Where it was compared"), places.length ? facts(places) : NONE];
}

function costOf(trial) {
  const [low, high] = trial.test_interval || [null, null];
  const around = low === null ? "" : ` (${metricText(low)} – ${metricText(high)})`;
  const operations = trial.flops === null ? null : trial.flops * trial.examples;
  return facts([
    ["examples seen", number(trial.examples)],
    ["epochs", number(trial.epoch, 3)],
    ["time in training", secondsText(trial.seconds)],
    ["floating-point operations", number(operations, 3)],
    ["parameters", number(trial.parameters)],
    ["crashes", number(trial.crashes)],
    [`${DATA.metric} on the test split`, metricText(trial.test) + around],
    ...clockFacts(trial.clock),
  ]);
}

function termsOf(trial) {
  const terms = Object.entries(trial.terms);
  if (!terms.length) return [];
  const told = terms.map(([name, value]) => [name.replaceAll("_", " "), number(value)]);
  return [make("h3", {}, "Other terms at its best validation"), facts(told)];
}

function curveText(trial) {
  const points = trial.curve.filter(([, , value]) => value !== null);
  if (!points.length) return `Trial ${trial.id} has no finite value.`;
  const [first, last] = [points[0], points[points.length - 1]];
  return `${DATA.metric} of trial ${trial.id}: ${metricText(first[2])} after ${number(first[0])} examples, ${metricText(last[2])} after ${number(last[0])}.`;
}

function showTrial(trial) {
  if (!dialog.open) cameFrom = document.activeElement;
  shownTrial = trial;
  const study = DATA.compare ? ` of ${DATA.studies[trial.study].name}` : "";
  byId("trial-title").textContent = `Trial ${trial.number}${study}`;
  byId("trial-body").replaceChildren(...bodyOf(trial));
  const place = view.rows.indexOf(trial);
  byId("trial-before").disabled = place < 1;
  byId("trial-after").disabled = place < 0 || place >= view.rows.length - 1;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  byId("trial-title").focus({ preventScroll: true });
  if (window.drawTrial) window.drawTrial(trial);
}

// The address says which trial is shown, so that it can be linked and gone back from.
function followAddress() {
  const found = /^#trial-(.+)$/.exec(location.hash);
  const trial = found && BY_ID.get(decodeURIComponent(found[1]));
  if (trial) showTrial(trial);
  else if (dialog.open) dialog.close();
}

function step(by) {
  const next = view.rows[view.rows.indexOf(shownTrial) + by];
  if (next) location.replace(`#trial-${next.id}`);
}

function startDetails() {
  byId("trial-close").addEventListener("click", () => dialog.close());
  byId("trial-before").addEventListener("click", () => step(-1));
  byId("trial-after").addEventListener("click", () => step(1));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#trial-"))
      history.replaceState(null, "", location.pathname + location.search);
    if (shownTrial && cameFrom && cameFrom.closest && cameFrom.closest("#trials"))
      focusTrial(shownTrial.id);
    shownTrial = null;
  });
  addEventListener("hashchange", followAddress);
  followAddress();
}
startDetails();
