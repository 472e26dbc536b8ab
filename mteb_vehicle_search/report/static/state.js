"use strict";
// The state of the page, and who draws anew when it changes.

let state = null;
let found = [];
const listeners = [], patient = [];
let turns = 0;

/** Call back after each change, with the state before it (null at first). */
const onState = (listener) => listeners.push(listener);
/** The same for what can wait until the others have been seen; a change that another follows at once is passed over. */
const onStateLater = (listener) => patient.push(listener);
const changed = (before, ...names) => !before || names.some((name) => String(before[name]) !== String(state[name]));

const numberOf = (name) => core.models.indexOf(name);
const chosen = () => state.models.map(numberOf);
/** The address of the captions that fit, with the models that are chosen. */
const aimAt = (wanted) => writeHash({ ...withModels(DEFAULTS, state.models), ...wanted });
const ofModel = (model) => VS[`model${model}`];

/** Show a state. The address follows, unless it is where the state came from. */
async function show(next, fromAddress = false) {
  const turn = ++turns;
  const missing = next.models.map(numberOf).filter((model) => !ofModel(model));
  if (missing.length) await Promise.all(missing.map((model) => load(`model${model}`)));
  // Another state may have been asked for meanwhile.
  if (turn !== turns) return;
  const before = state;
  state = next;
  found = findRows(state);
  takeColours();
  if (!fromAddress) history.replaceState(null, "", writeHash(state));
  for (const listener of listeners) listener(before);
  if (before) requestAnimationFrame(() => setTimeout(() => { if (turn === turns) drawLater(); }));
  else drawLater();
}

let drawn = null;
function drawLater() {
  const before = drawn;
  drawn = state;
  for (const listener of patient) listener(before);
}

// A chosen model keeps its colour while others come and go.
const colours = new Map();
function takeColours() {
  const models = chosen();
  for (const model of colours.keys()) if (!models.includes(model)) colours.delete(model);
  for (const model of models) {
    if (colours.has(model)) continue;
    const taken = new Set(colours.values());
    colours.set(model, [0, 1, 2, 3, 4, 5].find((number) => !taken.has(number)));
  }
}

const colour = (model) => (colours.has(model) ? `var(--model-${colours.get(model)})` : "var(--soft)");
const swatch = (model) => make("i", { className: "swatch", style: { background: colour(model) } });
