"use strict";
// Which queries are shown, and its form in the address: a link gives back the filters, the page and the query at once.

const DEFAULTS = {
  model: core.models[0],
  vs: core.models[Math.min(1, core.models.length - 1)],
  only: "",
  from: "",
  to: "",
  text: "",
  wrong: "",
  part: "",
  sort: "loss",
  page: "1",
  query: "", // Empty: the first of the page.
};

// By the ranks that the model and the compared model give to the relevant picture.
const SHOWN = {
  "": () => true,
  wrong: (rank) => rank > 1,
  ab: (rank, compared) => rank === 1 && compared > 1,
  ba: (rank, compared) => rank > 1 && compared === 1,
};

// A query whose best pictures are all relevant has no loss: it comes last either way.
const ORDERS = {
  loss: (loss) => (a, b) => (loss[b] ?? -Infinity) - (loss[a] ?? -Infinity),
  near: (loss) => (a, b) => (loss[a] ?? Infinity) - (loss[b] ?? Infinity),
  rank: (loss, ranks) => (a, b) => ranks[b] - ranks[a],
  id: () => () => 0,
};

// A query with several relevant pictures has several rows; all but the first get a number.
const keys = [];
const rowOf = new Map();
for (const id of core.ids) {
  let key = id;
  for (let n = 2; rowOf.has(key); n++) key = `${id}#${n}`;
  rowOf.set(key, keys.length);
  keys.push(key);
}

const lowerTexts = core.texts.map((text) => text.toLowerCase());
const partLabels = core.groups.flatMap((group) => group.labels);

/** The state that an address describes; null if it describes none (a section, or nothing). */
function readHash(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const known = [...found].filter(([name]) => Object.hasOwn(DEFAULTS, name));
  if (!known.length) return null;
  const state = { ...DEFAULTS, ...Object.fromEntries(known) };
  for (const name of ["model", "vs"]) if (!core.models.includes(state[name])) state[name] = DEFAULTS[name];
  for (const name of ["from", "to", "page"]) if (!/^\d+$/.test(state[name])) state[name] = DEFAULTS[name];
  if (!Object.hasOwn(SHOWN, state.only)) state.only = DEFAULTS.only;
  if (!Object.hasOwn(ORDERS, state.sort)) state.sort = DEFAULTS.sort;
  if (!rowOf.has(state.query)) state.query = DEFAULTS.query;
  return state;
}

/** The address of a state: what departs from the defaults. */
function writeHash(state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(changed.length ? changed : { sort: state.sort })}`;
}

/** The rows that a state shows, in its order. */
function findRows(state) {
  const model = core.models.indexOf(state.model), other = core.models.indexOf(state.vs);
  const ranks = core.ranks[model], compared = core.ranks[other];
  const from = Number(state.from) || 1, to = Number(state.to) || Infinity;
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const wrongClass = core.classes.indexOf(state.wrong), part = partLabels.indexOf(state.part);
  const isShown = SHOWN[state.only];
  const rows = [];
  for (let row = 0; row < keys.length; row++) {
    if (ranks[row] < from || ranks[row] > to || !isShown(ranks[row], compared[row])) continue;
    if (part >= 0 && !((core.groupsOf[row] >> part) & 1)) continue;
    if (wrongClass >= 0) {
      const wrong = core.wrong[model][row];
      if (wrong < 0 || core.classOf[wrong] !== wrongClass) continue;
    }
    if (words.every((word) => lowerTexts[row].includes(word))) rows.push(row);
  }
  const order = ORDERS[state.sort](core.loss[model], ranks);
  return rows.sort((a, b) => order(a, b) || a - b);
}
