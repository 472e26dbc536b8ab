"use strict";
// Runs before the first paint, so that the page never flashes in the wrong colours.
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  // A link to a query leads far down: nothing is shown until it is there, so that nothing jumps.
  if (location.hash.includes("=")) root.dataset.waiting = "";
  addEventListener("load", () => { delete root.dataset.waiting; });
  const stored = () => { try { return localStorage.getItem("vehicle-search-theme"); } catch { return null; } };
  const show = (theme) => {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = theme === "dark" ? "Light" : "Dark";
  };
  const current = () => stored() || (system.matches ? "dark" : "light");
  show(current());
  system.addEventListener("change", () => show(current()));
  addEventListener("DOMContentLoaded", () => {
    show(current());
    document.getElementById("theme").addEventListener("click", () => {
      const theme = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("vehicle-search-theme", theme); } catch { /* Not remembered, but shown. */ }
      show(theme);
    });
  });
}
