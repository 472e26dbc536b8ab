"use strict";
// One query: its relevant image, the image's other captions, and the top tens of the chosen models.

const detail = byId("detail");
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3);

const rowsOfImage = new Map();
for (const [row, number] of core.relevant.entries()) {
  if (!rowsOfImage.has(number)) rowsOfImage.set(number, []);
  rowsOfImage.get(number).push(row);
}

const shownModels = () => [...new Set([numberOf(state.model), numberOf(state.vs), ...chosen()])];
/** The scripts that a query needs: the names of images, and what each model found. */
const partsOf = (row) =>
  Promise.all([load("images"), ...shownModels().map((model) => load(`top${model}_${Math.floor(row / core.block)}`))]);

async function drawDetail(row, at) {
  if (row === undefined) return detail.replaceChildren();
  const models = shownModels(), turn = turns;
  const [, ...blocks] = await partsOf(row);
  // Another query may have been chosen meanwhile.
  if (turn === turns) detail.replaceChildren(...queryParts(row, at, models, blocks));
}

function queryParts(row, at, models, blocks) {
  const copyLink = button("Copy link", () => {
    copy(new URL(writeHash({ ...state, query: keys[row] }), location.href).href, copyLink);
  });
  const right = core.relevant[row];
  return [
    make("div", { className: "steps" },
      button("← Previous", () => step(-1), { disabled: at <= 0 }),
      make("span", {}, at < 0 ? "outside these filters" : `${count(at + 1)} of ${count(found.length)}`),
      button("Next →", () => step(1), { disabled: at === found.length - 1 })),
    make("div", { className: "question" },
      make("figure", { className: "relevant" }, zoomable(right, "the relevant image"),
        make("figcaption", {}, make("b", {}, "relevant"), make("small", {}, sourceOf(right)))),
      make("div", {}, caption(row, "h3"),
        make("p", { className: "ids" }, make("code", {}, keys[row]), make("code", {}, VS.images[right]), copyLink)),
      siblings(row, models)),
    make("div", { className: models.length > 2 ? "dense" : "" },
      ...models.map((model, n) => modelPart(model, row, blocks[n], row % core.block))),
  ];
}

/** The other captions of the relevant image, with the rank that each model gives it for them. */
function siblings(row, models) {
  const others = rowsOfImage.get(core.relevant[row]).filter((other) => other !== row);
  if (!others.length) return "";
  const ranks = (other) => models.map((model) => {
    const rank = ofModel(model).ranks[other];
    return make("span", { className: rank === 1 ? "good" : "", title: core.models[model] },
      swatch(model), hidden(`${core.models[model]}: rank `), count(rank));
  });
  return make("section", { className: "siblings" },
    make("h4", {}, "Other captions of this image"),
    make("ul", {}, ...others.map((other) => make("li", {},
      make("a", { href: writeHash({ ...state, query: keys[other] }) }, caption(other)),
      make("span", { className: "ranks" }, ...ranks(other))))));
}

/** What one model made of a query: its rank, and its best ten; the relevant image stands last if it is not among them. */
function modelPart(model, row, block, at) {
  const { ranks, loss: losses, captioned: above } = ofModel(model);
  const rank = ranks[row], loss = losses[row], captioned = above?.[row], top = block.images[at], own = block.score[at] / 1e4;
  const facts = [`score ${own.toFixed(3)}`];
  if (loss !== null) facts.push(`loss ${signed(loss)}`);
  if (captioned !== undefined && rank > 1) {
    facts.push(`above it ${plural(captioned, "captioned image")} and ${plural(rank - 1 - captioned, "distractor")}`);
  }
  const relevant = relevantTo(row), judged = core.judged[row] ?? {};
  let units = 0;
  const scores = block.scores[at].map((drop, n) => (units = n ? units - drop : drop) / 1e4);
  const tiles = top.map((image, n) => tile(image, n + 1, scores[n], relevant, judged));
  if (!top.includes(core.relevant[row])) tiles.push(tile(core.relevant[row], rank, own, relevant, judged, "beyond"));
  return make("section", { className: "answers" },
    make("div", { className: "who" },
      make("h4", {}, swatch(model), core.models[model], " ",
        make("span", { className: rank === 1 ? "rank good" : "rank" }, `rank ${count(rank)}`)),
      make("p", { className: "ids" }, facts.join(" · "))),
    make("ol", { className: "tiles" }, ...tiles));
}

/** A name that may go on in the next line behind each of its parts. */
const breakable = (name) => name.split(/(?<=[_/-])/).flatMap((part) => [part, make("wbr")]);

/** All images that are relevant to the query of a row. */
function relevantTo(row) {
  let first = row;
  while (first > 0 && core.ids[first - 1] === core.ids[row]) first--;
  const images = [];
  for (; core.ids[first] === core.ids[row]; first++) images.push(core.relevant[first]);
  return images;
}

function tile(number, rank, score, relevant, judged, className = "") {
  const right = relevant.includes(number), label = right ? "relevant" : classOf(number);
  const said = judgedWords(judged[number]), spoken = [right ? "relevant image" : label, `rank ${count(rank)}`, said];
  return make("li", { className },
    make("figure", { className: right ? "relevant" : judgedClass(judged[number]), title: VS.images[number] },
      zoomable(number, spoken.filter(Boolean).join(", ")),
      make("figcaption", {}, make("b", {}, make("span", { className: "place" }, `${count(rank)}. `), label),
        make("small", {}, ...breakable(sourceOf(number)), " ", make("span", {}, score.toFixed(3))),
        ...(said ? [make("small", { className: "judged" }, said)] : []))));
}
