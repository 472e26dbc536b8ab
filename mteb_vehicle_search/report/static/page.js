"use strict";
// What all parts of the page share: data, elements, images, scripts that are loaded when needed.

const core = VS.core;
const byId = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en");
const plural = (n, what) => `${count(n)} ${n === 1 ? what : what.endsWith("y") ? `${what.slice(0, -1)}ies` : `${what}s`}`;

/** Make an element; properties are set, never parsed, and children are nodes or text. */
function make(tag, properties = {}, ...children) {
  const { style = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.style, style);
  element.append(...children);
  return element;
}

/** A caption: any text, in any direction. */
const caption = (row, tag = "span") => make(tag, { className: "caption", dir: "auto" }, core.texts[row]);

const classOf = (image) => core.classes[core.classOf[image]];
const sourceOf = (image) => core.sources[core.sourceOf[image]];
const button = (text, onclick, properties = {}) => make("button", { type: "button", onclick, ...properties }, text);
const hidden = (text) => make("span", { className: "unseen" }, text);

/** The part of a model's name that tells most, where there is little room. */
function shortName(model) {
  const own = (name) => name.replace(/^[^[]*\//, ""), name = core.models[model], short = own(name);
  const told = core.models.filter((other) => own(other) === short).length > 1 ? name : short;
  return told.length > 26 ? `${told.slice(0, 25)}…` : told;
}

/** What was judged of an image, in words; "" if nothing was. */
const judgedWords = (grade) => (grade === undefined ? "" : `judged: ${core.grades[grade]}`);
/** The class that frames an image by its grade. */
const judgedClass = (grade) => (grade === undefined ? "" : `grade-${grade}`);

const EDGE = 2;

/** Image number n, cut out of its sheet, in a square frame; sizes are known, so nothing jumps when it arrives. */
function frame(n, label) {
  const { tile, columns, perSheet, sizes } = core.thumbs;
  // The encoder smears the neighbours over the edges; they are left out.
  const width = Math.floor(sizes[n] / 256) - 2 * EDGE, height = (sizes[n] % 256) - 2 * EDGE, longest = Math.max(width, height);
  const sheet = Math.floor(n / perSheet), place = n % perSheet;
  const onSheet = Math.min(perSheet, sizes.length - sheet * perSheet);
  const sheetWidth = Math.min(columns, onSheet) * tile, sheetHeight = Math.ceil(onSheet / columns) * tile;
  // CSS places a background by the share of the room that is left over.
  const share = (offset, whole, part) => (whole === part ? 0 : (100 * offset) / (whole - part));
  const x = share((place % columns) * tile + EDGE, sheetWidth, width);
  const y = share(Math.floor(place / columns) * tile + EDGE, sheetHeight, height);
  const inner = make("span", {
    className: "cut",
    style: {
      width: `${(100 * width) / longest}%`,
      height: `${(100 * height) / longest}%`,
      backgroundImage: `url("thumbs/${sheet}.webp")`,
      backgroundSize: `${(100 * sheetWidth) / width}% ${(100 * sheetHeight) / height}%`,
      backgroundPosition: `${x}% ${y}%`,
    },
  });
  if (label) {
    inner.role = "img";
    inner.ariaLabel = label;
  }
  return make("span", { className: "frame" }, inner);
}

/** Load data/NAME.js once; a page from file:// may load scripts, but not fetch. */
const loading = new Map();
function load(name) {
  if (!loading.has(name)) {
    loading.set(name, VS[name] ? Promise.resolve(VS[name]) : new Promise((resolve, reject) => {
      const failed = () => reject(new Error(`data/${name}.js cannot be read`));
      document.head.append(make("script", { src: `data/${name}.js`, onload: () => resolve(VS[name]), onerror: failed }));
    }));
  }
  return loading.get(name);
}

/** Put text on the clipboard; where that is not allowed, select it. */
async function copy(text, button, element) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    if (element) getSelection().selectAllChildren(element);
    button.textContent = element ? "Selected: press Ctrl+C" : "Not allowed here";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

byId("copy").addEventListener("click", () => copy(byId("bibtex").textContent, byId("copy"), byId("bibtex")));
