// The page: what is shown, and what keys and buttons do.

import { Images, fitAll, scaleOf } from "./images.js";
import { Notice } from "./notice.js";
import { Queue } from "./queue.js";
import { finish, getSession, getSummary, sendAnswer } from "./server.js";
import { Session } from "./session.js";
import { showFigures, showSummary } from "./summary.js";
import { Stopwatch } from "./stopwatch.js";

const AHEAD = 5;
const $ = (id) => document.getElementById(id);
const gradeButtons = [...document.querySelectorAll(".grades button")];

const images = new Images();
const watch = new Stopwatch(() => $("guide").open);
const notice = new Notice($("notice"));
let session, queue, progress, view = "", shown = null, zoomed = false, unseen = false, known = 0, complaint = null;

// The decision

function show(name) {
  view = name;
  for (const id of ["decision", "summary", "farewell"]) $(id).hidden = id !== name;
}

function showNext() {
  if (session.next === null) return openSummary();
  showItem(session.next);
  for (const next of session.ahead(AHEAD)) imageOf(next);
  drawState();
}

function showItem(item) {
  show("decision");
  shown = item;
  const unit = session.unit(item), [at, of] = session.place(item);
  if ($("caption").textContent !== unit.caption) $("caption").textContent = unit.caption;
  $("place").textContent = `Caption ${item.unit + 1} of ${session.units.length}, image ${at} of ${of}`;
  $("announce").textContent = `Decision ${session.items.indexOf(item) + 1}. ${unit.caption}`;
  revealKnown(false);
  placeImage(item);
}

const imageOf = (item) => images.get(`/image/${item.key}`, "The image to be judged");

function placeImage(item) {
  unseen = false;
  const image = imageOf(item);
  $("stage").replaceChildren(image);
  watch.stop();
  if (image.shown) return imageIsThere();
  layOut();
  image.ready.then((can) => {
    if (shown !== item || !$("stage").contains(image)) return;
    return can ? imageIsThere() : imageIsMissing(item);
  });
}

// Nobody can judge what is not seen: either the server is gone, or "cannot tell" is all there is to say.
async function imageIsMissing(item) {
  try {
    await getSummary();
  } catch (trouble) {
    return complain(trouble, showNext);
  }
  if (shown !== item) return;
  const sorry = document.createElement("p");
  sorry.textContent = "This image cannot be shown.";
  $("stage").replaceChildren(sorry);
  layOut();
  unseen = true;
  watch.start();
  drawState();
}

function imageIsThere() {
  layOut();
  watch.start();
  drawState();
}

function layOut() {
  for (const stage of document.querySelectorAll(".stage")) fitAll(stage, zoomed);
  $("scale").textContent = scaleOf($("stage"), zoomed);
  $("zoom").setAttribute("aria-pressed", zoomed);
}

// Of several images of a caption, each press of R shows the next one, and then none.
function revealKnown(next) {
  const unit = session.unit(shown);
  known = next ? (known + 1) % (unit.known + 1) : 0;
  $("reveal").setAttribute("aria-pressed", known > 0);
  $("known").hidden = known === 0;
  if (known === 0) return layOut();
  unit.looked = true;
  const image = images.get(`/known/${shown.key}/${known - 1}`, "The caption’s own image");
  $("known").querySelector(".stage").replaceChildren(image);
  $("known").querySelector("figcaption").textContent =
    unit.known > 1 ? `The caption’s own image, ${known} of ${unit.known}` : "The caption’s own image";
  image.ready.then(layOut);
  layOut();
}

// Answers

const free = () => view === "decision" && !queue.trouble && !$("guide").open;
const mayAnswer = (grade) => free() && watch.running && (!unseen || grade === 0);

function answer(grade) {
  if (!mayAnswer(grade)) return;
  const seconds = watch.stop(), looked = session.unit(shown).looked;
  shown.grade = grade;
  queue.add({ key: shown.key, grade, seconds, looked });
  showNext();
}

function undo() {
  const item = session.before;
  if (!item || queue.trouble || $("guide").open || view === "farewell") return;
  item.grade = null;
  queue.add({ key: item.key, grade: null, seconds: 0, looked: session.unit(item).looked });
  showNext();
}

function saved(reply) {
  progress = reply.progress;
}

function drawState() {
  const unsaved = queue.size, trouble = queue.trouble;
  $("saved").dataset.state = trouble ? "trouble" : unsaved ? "saving" : "saved";
  $("saved").querySelector("span").textContent = trouble ? `${unsaved} not saved` : unsaved ? "Saving" : "Saved";
  for (const button of gradeButtons) {
    button.setAttribute("aria-disabled", !mayAnswer(Number(button.dataset.grade)));
    const [unsavedOne] = trouble ? queue.waiting : [];
    button.toggleAttribute("data-given", String(unsavedOne?.grade) === button.dataset.grade);
  }
  $("undo").disabled = !session.before || Boolean(trouble);
  $("finish").disabled = unsaved > 0;
  showFigures(progress);
  drawNotice();
}

// Trouble: the unsaved answer stands on the screen, and nothing else can be answered before it is saved.

function changed() {
  const held = queue.trouble && session.byKey.get(queue.waiting[0].key);
  if (held && held !== shown) showItem(held);
  drawState();
}

const REMEDIES = { elsewhere: "Go on here", useless: "Leave this answer out" };

function drawNotice() {
  const trouble = queue?.trouble;
  if (trouble) {
    const what = queue.size === 1 ? "This answer is" : `${queue.size} answers are`;
    const text = trouble.kind === "elsewhere" ? trouble.message : `${what} not saved yet. ${trouble.message}`;
    notice.show(text, REMEDIES[trouble.kind] ?? "Try again", sendAgain, trouble.kind === "gone");
  } else if (complaint) {
    notice.show(complaint.trouble.message, "Try again", complaint.again, complaint.trouble.kind === "gone");
  } else {
    notice.hide();
  }
}

/** Say that something else than an answer went wrong, and what is to be tried again. */
function complain(trouble, act) {
  const again = () => {
    complaint = null;
    drawNotice();
    act();
  };
  complaint = { trouble, again };
  drawNotice();
}

async function sendAgain() {
  const { kind } = queue.trouble;
  if (kind === "useless") queue.drop();
  if (kind === "useless" || kind === "elsewhere") {
    try {
      await load();
    } catch (trouble) {
      queue.trouble = trouble;
      return drawNotice();
    }
  }
  await queue.run();
  if (!queue.trouble) showNext();
}

// Summary and end

async function openSummary() {
  watch.stop();
  shown = null;
  await queue.run();
  if (queue.trouble) return;
  try {
    const done = session.next === null;
    showSummary(await getSummary(), done);
    show("summary");
    $("go-on").textContent = done ? "Take back the last answer" : "Go on judging";
    $("go-on").hidden = done && !session.before;
    $("summary-title").focus();
  } catch (trouble) {
    complain(trouble, openSummary);
  }
  drawState();
}

const goOn = () => (session.next ? showNext() : undo());

async function end() {
  if (queue.size) return;
  try {
    await finish();
    show("farewell");
    $("stop").hidden = true;
    $("saved").hidden = true;
    $("farewell").querySelector("h1").focus();
  } catch (trouble) {
    complain(trouble, end);
  }
}

function openGuide() {
  watch.pause();
  $("guide").showModal();
}

// Keys and buttons

function onKey(event) {
  // A key that is held is one decision.
  if (event.repeat && event.key === "Enter") event.preventDefault();
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || $("guide").open) return;
  const key = event.key.toLowerCase();
  const act = gradeButtons.some(({ dataset }) => dataset.grade === key) ? () => answer(Number(key)) : ACTIONS[key];
  if (!act) return;
  event.preventDefault();
  act();
}

const ACTIONS = {
  u: undo,
  z: () => { if (view === "decision") { zoomed = !zoomed; layOut(); } },
  r: () => view === "decision" && shown && revealKnown(true),
  "?": openGuide,
};

function connect() {
  document.addEventListener("keydown", onKey);
  for (const button of gradeButtons) {
    button.addEventListener("click", () => answer(Number(button.dataset.grade)));
  }
  const { u, z, r } = ACTIONS;
  const clicks = { undo: u, zoom: z, reveal: r, "open-guide": openGuide, stop: openSummary, "go-on": goOn, finish: end };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("guide").addEventListener("close", () => { watch.goOn(); drawState(); });
  addEventListener("resize", layOut);
  addEventListener("beforeunload", (event) => { if (queue.size) event.preventDefault(); });
}

/** Take the page over for this tab. */
async function load() {
  const given = await getSession();
  session = new Session(given);
  progress = given.progress;
  queue ??= new Queue(session.name, sendAnswer, { saved, changed });
  // What an earlier load of this tab could not save is answered already.
  for (const one of queue.waiting) {
    const item = session.byKey.get(one.key);
    if (item) item.grade = one.grade;
  }
}

async function start() {
  try {
    await load();
  } catch (trouble) {
    return complain(trouble, start);
  }
  history.replaceState(null, "", "/");
  connect();
  showNext();
  queue.run();
  if (!progress.decisions && session.next) openGuide();
}

start();
