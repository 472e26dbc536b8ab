"use strict";
// An image at the size of the window: by a click, by Enter on it, or by z for the relevant one; arrows go on to the next.

const zoom = byId("zoom");

/** An image that opens large. */
function zoomable(number, label) {
  const opener = button("", () => openZoom(opener), { className: "zoomable", ariaLabel: `Enlarge: ${label}` });
  opener.append(frame(number));
  opener.dataset.image = number;
  opener.dataset.label = label;
  return opener;
}

function openZoom(opener) {
  const number = Number(opener.dataset.image);
  const facts = [opener.dataset.label, classOf(number), sourceOf(number)];
  zoom.replaceChildren(
    frame(number, opener.dataset.label),
    make("p", {}, [...new Set(facts)].join(" · ")),
    make("p", { className: "ids" }, make("code", {}, VS.images[number]), " reduced: the models saw it larger"),
    button("Close", () => zoom.close()));
  zoom.opener = opener;
  if (!zoom.open) zoom.showModal();
}

zoom.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const all = [...detail.querySelectorAll(".zoomable")];
  const next = all[all.indexOf(zoom.opener) + by];
  if (next) openZoom(next);
  event.preventDefault();
});
zoom.addEventListener("click", ({ target }) => { if (target === zoom) zoom.close(); });
zoom.addEventListener("close", () => zoom.opener?.focus());
