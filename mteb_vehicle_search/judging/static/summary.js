// What was said so far, and how the checks went.

const wordOf = (grade) => document.querySelector(`.grades [data-grade="${grade}"] span`).textContent;
const CHECKS = { known: "captions’ own images were not refused", random: "random images were not accepted" };

function element(name, text, ...children) {
  const made = Object.assign(document.createElement(name), { textContent: text });
  made.append(...children);
  return made;
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function gradeRow(grade, given, total) {
  const row = element("tr", "", element("th", wordOf(grade)), element("td", String(given)));
  row.firstChild.scope = "row";
  const bar = document.createElement("progress");
  Object.assign(bar, { max: Math.max(1, total), value: given });
  bar.setAttribute("aria-label", `${given} of ${total}`);
  row.append(element("td", "", bar));
  return row;
}

function headings({ decisions, of_decisions }, done) {
  if (!of_decisions) return ["Nothing to judge", "Others have judged all of it. Finish ends the program."];
  if (done) return ["Everything is judged", "Every answer is stored. Finish ends the program."];
  return ["So far", `Every answer is stored; ${of_decisions - decisions} of ${of_decisions} decisions are left. ` +
    "Finish ends the program; the same command goes on from here, also on another day."];
}

/** Fill the summary; `done` says whether everything is judged. */
export function showSummary({ grades, seconds, checks, progress }, done) {
  const of = (id) => document.getElementById(id);
  [of("summary-title").textContent, of("summary-lead").textContent] = headings(progress, done);
  const total = Object.values(grades).reduce((sum, count) => sum + count, 0);
  of("grades").replaceChildren(...Object.keys(grades).reverse().map((grade) => gradeRow(grade, grades[grade], total)));
  const facts = [["Captions", `${progress.units} of ${progress.of_units}`], ["Time", duration(seconds)]];
  if (progress.seconds !== null) facts.push(["A decision", `${progress.seconds.toFixed(1)} s (median)`]);
  if (progress.halfWidth !== null) facts.push(["Corrected score", `± ${progress.halfWidth.toFixed(3)}`]);
  for (const [kind, [passed, answered]] of Object.entries(checks)) {
    if (answered) facts.push(["Checks", `${passed} of ${answered} ${CHECKS[kind]}`]);
  }
  of("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

/** Say how far the judge is, below the decision and in the bar. */
export function showFigures({ decisions, of_decisions, units, of_units, seconds, halfWidth }) {
  const bar = document.getElementById("bar");
  bar.max = of_decisions;
  bar.value = decisions;
  const parts = [`${decisions} of ${of_decisions} decisions saved`, `${units} of ${of_units} captions`];
  if (seconds !== null) parts.push(`${seconds.toFixed(1)} s each`);
  if (halfWidth !== null) parts.push(`corrected score ± ${halfWidth.toFixed(3)}`);
  document.getElementById("figures").replaceChildren(...parts.map((text) => element("span", text)));
}
