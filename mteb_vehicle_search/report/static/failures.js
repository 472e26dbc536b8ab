"use strict";
// The failures: filters, and the list of queries that fit them. The query beside it is drawn by query_view.js.

const PER_PAGE = 20;
const form = byId("filters");

const pages = () => Math.max(1, Math.ceil(found.length / PER_PAGE));
const pageNumber = () => Math.min(pages(), Math.max(1, Math.floor(Number(state.page)) || 1));
const onPage = () => found.slice((pageNumber() - 1) * PER_PAGE, pageNumber() * PER_PAGE);
const shownRow = () => rowOf.get(state.query) ?? onPage()[0];

function fillChoices() {
  form.elements.wrong.append(...core.wrongClasses.map((name) => new Option(name)));
  for (const { title, labels } of core.groups) {
    form.elements.part.append(make("optgroup", { label: title }, ...labels.map((label) => new Option(label))));
  }
}

function drawForm(before) {
  if (changed(before, "models")) {
    for (const name of ["model", "vs"]) form.elements[name].replaceChildren(...state.models.map((model) => new Option(model)));
  }
  for (const name of Object.keys(DEFAULTS)) {
    const field = form.elements[name];
    if (field && field.value !== state[name]) field.value = state[name];
  }
}

function drawList() {
  const { ranks, loss } = ofModel(numberOf(state.model)), other = ofModel(numberOf(state.vs)).ranks, current = shownRow();
  byId("count").textContent = `${count(found.length)} of ${plural(keys.length, "caption")}`;
  byId("page").textContent = `${count(pageNumber())} / ${count(pages())}`;
  byId("back").disabled = pageNumber() === 1;
  byId("more").disabled = pageNumber() === pages();
  const beside = (row) => (state.sort === "wins" ? `against ${count(other[row])}` : loss[row] === null ? "" : `loss ${signed(loss[row])}`);
  byId("list").replaceChildren(...onPage().map((row) => {
    const link = make("a", { href: writeHash({ ...state, query: keys[row] }) },
      frame(core.relevant[row]),
      caption(row),
      make("span", { className: ranks[row] === 1 ? "figures good" : "figures" },
        make("b", {}, `rank ${count(ranks[row])}`), make("small", {}, beside(row))));
    if (row === current) link.setAttribute("aria-current", "true");
    return make("li", {}, link);
  }));
  if (!found.length) byId("list").append(make("li", { className: "none" }, "No caption fits all filters."));
}

/** Go to the next or the previous query of the list. */
function step(by) {
  const at = found.indexOf(shownRow()) + by;
  if (at < 0 || at >= found.length) return;
  show({ ...state, query: keys[found[at]], page: String(Math.floor(at / PER_PAGE) + 1) });
  reveal();
}

/** Scroll to the query, if it is not in sight. */
function reveal() {
  const { top } = detail.getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.6) detail.scrollIntoView();
}

const turnPage = (by) => show({ ...state, page: String(pageNumber() + by), query: "" });

form.addEventListener("input", ({ target }) => show({ ...state, [target.name]: target.value, page: "1", query: "" }));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => {
  event.preventDefault();
  show(withModels(DEFAULTS, state.models));
});
byId("back").addEventListener("click", () => turnPage(-1));
byId("more").addEventListener("click", () => turnPage(1));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("zoom").open || event.target.closest("input, select, textarea")) return;
  // Arrows scroll a table that has the focus, and step through the values of a chart.
  const arrows = !event.target.closest(".scroll, pre, .chart");
  if (event.key === "j" || (arrows && event.key === "ArrowRight")) step(1);
  else if (event.key === "k" || (arrows && event.key === "ArrowLeft")) step(-1);
  else if (event.key === "/") form.elements.text.focus();
  else if (event.key === "z") detail.querySelector(".zoomable")?.click();
  else return;
  event.preventDefault();
});

fillChoices();
// The list waits a moment for its query: drawn together, they are laid out once. It does not need it.
const PATIENCE_MS = 60;

onState(async (before) => {
  drawForm(before);
  const row = shownRow(), turn = turns;
  if (row !== undefined) {
    await Promise.race([partsOf(row).catch(() => {}), new Promise((done) => { setTimeout(done, PATIENCE_MS); })]);
  }
  if (turn !== turns) return;
  drawList();
  drawDetail(row, found.indexOf(row));
});
