"use strict";
// All parts are there: show what the address says, now and whenever it changes.

addEventListener("hashchange", async () => {
  const next = readHash(location.hash);
  if (!next) return;
  await show(next, true);
  reveal();
});

show(readHash(location.hash) || withModels(DEFAULTS, DEFAULTS.models), true).then(() => {
  if (readHash(location.hash)) byId("failures").scrollIntoView({ behavior: "instant" });
  delete document.documentElement.dataset.waiting;
});
