"use strict";
// The failures: a list of queries on the left, one query with everybody's top ten on the right.

const PER_PAGE = 20;
const form = byId("filters"), detail = byId("detail");
let state = readHash(location.hash) || { ...DEFAULTS };
let found = [];

const pages = () => Math.max(1, Math.ceil(found.length / PER_PAGE));
const pageNumber = () => Math.min(pages(), Math.max(1, Math.floor(Number(state.page)) || 1));
const onPage = () => found.slice((pageNumber() - 1) * PER_PAGE, pageNumber() * PER_PAGE);
const shownRow = () => rowOf.get(state.query) ?? onPage()[0];
const modelNumber = () => core.models.indexOf(state.model);
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3);

function fillChoices() {
  const wrong = new Set(core.wrong.flat().filter((image) => image >= 0).map(classOf));
  form.elements.wrong.append(...[...wrong].sort().map((name) => new Option(name)));
  for (const { title, labels } of core.groups) {
    form.elements.part.append(make("optgroup", { label: title }, ...labels.map((label) => new Option(label))));
  }
}

/** Show a state. The address follows, unless it is where the state came from. */
function show(next, fromAddress = false) {
  state = next;
  found = findRows(state);
  for (const name of Object.keys(DEFAULTS)) {
    const field = form.elements[name];
    if (field && field.value !== state[name]) field.value = state[name];
  }
  if (!fromAddress) history.replaceState(null, "", writeHash(state));
  drawList();
  drawDetail();
}

function drawList() {
  const model = modelNumber(), ranks = core.ranks[model], loss = core.loss[model], current = shownRow();
  byId("count").textContent = `${count(found.length)} of ${plural(keys.length, "caption")}`;
  byId("page").textContent = `${count(pageNumber())} / ${count(pages())}`;
  byId("back").disabled = pageNumber() === 1;
  byId("more").disabled = pageNumber() === pages();
  byId("list").replaceChildren(...onPage().map((row) => {
    const link = make("a", { href: writeHash({ ...state, query: keys[row] }) },
      picture(core.relevant[row]),
      caption(row),
      make("span", { className: ranks[row] === 1 ? "figures good" : "figures" },
        make("b", {}, `rank ${count(ranks[row])}`),
        make("small", {}, loss[row] === null ? "" : `loss ${signed(loss[row])}`)));
    if (row === current) link.setAttribute("aria-current", "true");
    return make("li", {}, link);
  }));
  if (!found.length) byId("list").append(make("li", { className: "none" }, "No caption fits all filters."));
}

async function drawDetail() {
  const row = shownRow();
  if (row === undefined) return detail.replaceChildren();
  const number = Math.floor(row / core.block);
  const [block] = await Promise.all([load(`block${number}`), load("images")]);
  // Another query may have been chosen meanwhile.
  if (row === shownRow()) detail.replaceChildren(...queryParts(row, block, row - number * core.block));
}

function queryParts(row, block, at) {
  const place = found.indexOf(row);
  const order = [...new Set([modelNumber(), core.models.indexOf(state.vs), ...core.models.keys()])];
  const button = (text, onclick, disabled = false) => make("button", { type: "button", disabled, onclick }, text);
  const copyLink = button("Copy link", () => {
    copy(new URL(writeHash({ ...state, query: keys[row] }), location.href).href, copyLink);
  });
  const right = core.relevant[row];
  return [
    make("div", { className: "steps" },
      button("← Previous", () => step(-1), place <= 0),
      make("span", {}, place < 0 ? "outside these filters" : `${count(place + 1)} of ${count(found.length)}`),
      button("Next →", () => step(1), place === found.length - 1)),
    make("div", { className: "question" },
      make("figure", { className: "relevant" }, picture(right, "the relevant picture"),
        make("figcaption", {}, make("b", {}, "relevant"))),
      make("div", {}, caption(row, "h3"),
        make("p", { className: "ids" }, make("code", {}, keys[row]), make("code", {}, VS.images[right]), copyLink))),
    ...order.map((model) => modelPart(model, row, block, at)),
  ];
}

/** What one model made of a query: its rank, and its best ten; the relevant picture stands last if it is not among them. */
function modelPart(model, row, block, at) {
  const rank = core.ranks[model][row], loss = core.loss[model][row], captioned = block.captioned[model]?.[at];
  const score = block.score[model][at], top = block.top[model][at], scores = block.scores[model][at];
  const facts = [`score ${score.toFixed(3)}`];
  if (loss !== null) facts.push(`loss ${signed(loss)}`);
  if (captioned !== undefined && rank > 1) {
    facts.push(`above it ${plural(captioned, "captioned picture")} and ${plural(rank - 1 - captioned, "distractor")}`);
  }
  const relevant = relevantTo(row);
  const tiles = top.map((image, n) => tile(image, n + 1, scores[n], relevant));
  if (!top.includes(core.relevant[row])) tiles.push(tile(core.relevant[row], rank, score, relevant, "beyond"));
  return make("section", { className: "answers" },
    make("h4", {}, make("i", { className: "swatch", style: { background: colour(model) } }), core.models[model], " ",
      make("span", { className: rank === 1 ? "rank good" : "rank" }, `rank ${count(rank)}`)),
    make("p", { className: "ids" }, facts.join(" · ")),
    make("ol", { className: "tiles" }, ...tiles));
}

/** All pictures that are relevant to the query of a row. */
function relevantTo(row) {
  let first = row;
  while (first > 0 && core.ids[first - 1] === core.ids[row]) first--;
  const images = [];
  for (; core.ids[first] === core.ids[row]; first++) images.push(core.relevant[first]);
  return images;
}

function tile(image, rank, score, relevant, className = "") {
  const right = relevant.includes(image), label = right ? "relevant" : classOf(image);
  return make("li", { className },
    make("figure", { className: right ? "relevant" : "", title: VS.images[image] },
      picture(image, `${right ? "relevant picture" : label}, rank ${count(rank)}`),
      make("figcaption", {}, make("b", {}, `${count(rank)}. ${label}`), make("small", {}, score.toFixed(3)))));
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
  show({ ...DEFAULTS });
});
byId("back").addEventListener("click", () => turnPage(-1));
byId("more").addEventListener("click", () => turnPage(1));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  // Arrows scroll a table that has the focus.
  const arrows = !event.target.closest(".scroll, pre");
  if (event.key === "j" || (arrows && event.key === "ArrowRight")) step(1);
  else if (event.key === "k" || (arrows && event.key === "ArrowLeft")) step(-1);
  else if (event.key === "/") form.elements.text.focus();
  else return;
  event.preventDefault();
});
addEventListener("hashchange", () => {
  const next = readHash(location.hash);
  if (!next) return;
  show(next, true);
  reveal();
});

fillChoices();
show(state, true);
if (readHash(location.hash)) byId("failures").scrollIntoView({ behavior: "instant" });
