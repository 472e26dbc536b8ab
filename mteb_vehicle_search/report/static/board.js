"use strict";
// The leaderboard: which models are shown below, and by which column it is sorted.

{
  /** Whether a column holds numbers; ranges count by their beginning, dashes come last. */
  const isNumber = (text) => /^[−-]?[\d,.]+( ?[–(M].*)?$/.test(text);
  const valueOf = (text) => Number.parseFloat(text.replace(/,/g, "").replace("−", "-"));

  /** Sort the first body of a table by a column; rows marked as random stay last. */
  function sortBy(table, at, heading) {
    const body = table.tBodies[0], rows = [...body.rows].filter((row) => !row.classList.contains("random"));
    const text = (row) => row.cells[at].innerText.trim();
    const known = rows.filter((row) => text(row) !== "–"), numbers = known.every((row) => isNumber(text(row)));
    const before = heading.getAttribute("aria-sort");
    const firstUp = !numbers || /rank/i.test(heading.innerText);
    const up = before === null ? firstUp : before === "descending";
    for (const one of table.tHead.querySelectorAll("[aria-sort]")) one.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = numbers ? (a, b) => valueOf(text(a)) - valueOf(text(b)) : (a, b) => text(a).localeCompare(text(b), "en");
    known.sort((a, b) => (up ? order(a, b) : order(b, a)));
    body.prepend(...known, ...rows.filter((row) => !known.includes(row)));
    // Lines between ranks have a meaning in the order of ranks only.
    table.classList.toggle("by-rank", up && heading.innerText.trim() === "Rank");
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    table.classList.add("by-rank");
    for (const [at, heading] of [...table.tHead.rows[0].cells].entries()) {
      if (heading.classList.contains("drawn")) continue;
      const sorter = button(heading.textContent.trim(), () => sortBy(table, at, heading), { className: "sort" });
      heading.replaceChildren(sorter);
    }
  }

  const boxes = [...document.querySelectorAll("#board input[name=models]")];
  const name = (box) => core.models[Number(box.value)];
  for (const box of boxes) {
    box.addEventListener("change", () => {
      const models = box.checked ? [...state.models, name(box)] : state.models.filter((one) => one !== name(box));
      show(withModels(state, models));
    });
  }

  onState((before) => {
    if (!changed(before, "models")) return;
    for (const box of boxes) {
      box.checked = state.models.includes(name(box));
      box.disabled = box.checked ? state.models.length === 1 : state.models.length === MOST_CHOSEN;
      box.closest("tr").style.setProperty("--own", colour(Number(box.value)));
    }
    const full = state.models.length === MOST_CHOSEN && core.models.length > MOST_CHOSEN;
    byId("chosen").replaceChildren(
      make("span", {}, `${state.models.length} of ${plural(core.models.length, "model")} in the charts and failures below${full ? " (no more fit)" : ""}:`),
      ...chosen().map((model) => make("span", { className: "chip" }, swatch(model), core.models[model])));
  });
}
