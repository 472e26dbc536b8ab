"use strict";
// What is shown, and its form in the address: a link gives back the models, the filters, the page and the query.

const MOST_CHOSEN = 6, FIRST_CHOSEN = 3;

const DEFAULTS = {
  models: core.models.slice(0, FIRST_CHOSEN), // In charts and failures.
  model: core.models[0],
  vs: core.models[Math.min(1, core.models.length - 1)],
  only: "",
  from: "",
  to: "",
  text: "",
  wrong: "",
  part: "",
  judged: "", // Or "right": a wrong image of a chosen model's top ten was judged right.
  sort: "loss",
  page: "1",
  query: "", // Empty: the first of the page.
};

// By the ranks that the model and the compared model give to the relevant image.
const SHOWN = {
  "": () => true,
  wrong: (rank) => rank > 1,
  ab: (rank, compared) => rank === 1 && compared > 1,
  ba: (rank, compared) => rank > 1 && compared === 1,
};

// A query whose best images are all relevant has no loss: it comes last either way.
const ORDERS = {
  loss: ({ loss }) => (a, b) => (loss[b] ?? -Infinity) - (loss[a] ?? -Infinity),
  near: ({ loss }) => (a, b) => (loss[a] ?? Infinity) - (loss[b] ?? Infinity),
  rank: ({ ranks }) => (a, b) => ranks[b] - ranks[a],
  wins: ({ ranks }, other) => (a, b) => decides(ranks[b], other.ranks[b]) - decides(ranks[a], other.ranks[a]),
  id: () => () => 0,
};

const gain = (rank) => core.gains[rank - 1] ?? 0;
/** How far a caption speaks for the first of two ranks: what it gains, and if that is the same, how many times better. */
const decides = (rank, other) => gain(rank) - gain(other) + 1e-6 * Math.log(other / rank);

// A query with several relevant images has several rows; all but the first get a number.
const keys = [];
const rowOf = new Map();
for (const id of core.ids) {
  let key = id;
  for (let n = 2; rowOf.has(key); n++) key = `${id}#${n}`;
  rowOf.set(key, keys.length);
  keys.push(key);
}

const partLabels = core.groups.flatMap((group) => group.labels);

/** The state that an address describes; null if it describes none (a section, or nothing). */
function readHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const known = [...given].filter(([name]) => Object.hasOwn(DEFAULTS, name));
  if (!known.length) return null;
  const state = { ...DEFAULTS, ...Object.fromEntries(known), models: given.getAll("models") };
  for (const name of ["from", "to", "page"]) if (!/^\d+$/.test(state[name])) state[name] = DEFAULTS[name];
  if (!Object.hasOwn(SHOWN, state.only)) state.only = DEFAULTS.only;
  if (!Object.hasOwn(ORDERS, state.sort)) state.sort = DEFAULTS.sort;
  if (state.judged !== "right" || !core.grades) state.judged = DEFAULTS.judged;
  if (!rowOf.has(state.query)) state.query = DEFAULTS.query;
  return withPair(withModels(state, state.models), state.model, state.vs);
}

/** A state with these models; those that it compares are among them. */
function withModels(state, models) {
  const known = [...new Set(models)].filter((name) => core.models.includes(name));
  const chosen = (known.length ? known : DEFAULTS.models).slice(0, MOST_CHOSEN);
  const model = chosen.includes(state.model) ? state.model : chosen[0];
  const vs = chosen.includes(state.vs) ? state.vs : chosen.find((name) => name !== model) ?? model;
  return { ...state, models: chosen, model, vs };
}

/** A state that compares two models; where there is no room for one, it takes the place of the last. */
function withPair(state, model, vs) {
  const models = [...state.models], wanted = [model, vs].filter((name) => core.models.includes(name));
  for (const name of wanted) {
    if (models.includes(name)) continue;
    if (models.length === MOST_CHOSEN) models.splice(models.findLastIndex((one) => !wanted.includes(one)), 1);
    models.push(name);
  }
  return withModels({ ...state, model, vs }, models);
}

/** The address of a state: what departs from the defaults. */
function writeHash(state) {
  const changed = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (String(value) !== String(DEFAULTS[name])) for (const one of [value].flat()) changed.append(name, one);
  }
  return `#${changed.size ? changed : new URLSearchParams({ sort: state.sort })}`;
}

/** The rows that a state shows, in its order. */
function findRows(state) {
  const own = VS[`model${core.models.indexOf(state.model)}`], other = VS[`model${core.models.indexOf(state.vs)}`];
  const from = Number(state.from) || 1, to = Number(state.to) || Infinity, terms = termsOf(state.text);
  const wrongClass = core.classes.indexOf(state.wrong), part = partLabels.indexOf(state.part);
  const isShown = SHOWN[state.only];
  const judged = state.judged && new Set(state.models.flatMap((name) => VS[`model${core.models.indexOf(name)}`].judgedRight));
  const rows = [];
  for (let row = 0; row < keys.length; row++) {
    const rank = own.ranks[row];
    if (rank < from || rank > to || !isShown(rank, other.ranks[row])) continue;
    if (judged && !judged.has(row)) continue;
    if (part >= 0 && !((core.groupsOf[row] >> part) & 1)) continue;
    if (wrongClass >= 0 && core.classOf[own.wrong[row]] !== wrongClass) continue;
    if (fits(core.texts[row], terms)) rows.push(row);
  }
  const order = ORDERS[state.sort](own, other);
  return rows.sort((a, b) => order(a, b) || a - b);
}
