"use strict";
// What all charts share. They are drawn by Observable Plot as wide as there is room; colours are CSS variables, so that a
// change between light and dark needs no new drawing.

const STYLE = { fontFamily: "inherit", fontSize: "13px", background: "transparent", overflow: "visible" };
const GRID = { stroke: "var(--line)", strokeOpacity: 1, ticks: 5 };
const AXIS = { color: "var(--soft)", labelArrow: "none" };
const NEAR_PX = 40, LINE_PX = 14;

const short = (n) => (n >= 1e9 ? `${n / 1e9}B` : n >= 1e6 ? `${n / 1e6}M` : n >= 1e3 ? `${n / 1e3}k` : String(n));

/** An interval in words; too few images have none. */
const within = (low, high, digits) => low === null ? "no interval: too few images"
  : `95 % interval ${low.toFixed(digits)} to ${high.toFixed(digits)}`;

/** Make an SVG element. */
function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Draw a chart. Plot names its groups ("rect", "link"): it says nothing, and groups may not have it. */
function plot(options) {
  const chart = Plot.plot({ style: STYLE, ...options });
  chart.querySelectorAll("g[aria-label]").forEach((group) => group.removeAttribute("aria-label"));
  return chart;
}

/** Names at the right of a chart, each as near its line's end as the others allow, with its colour. */
function nameLines(chart, ends, x, top = 0) {
  const lines = [...ends].sort((a, b) => a.y - b.y);
  lines.forEach((line, n) => { line.at = n ? Math.max(line.y, lines[n - 1].at + LINE_PX) : line.y; });
  // What was pushed below the last line moves up again, together.
  const over = Math.max(0, lines.at(-1).at - Math.max(...lines.map(({ y }) => y)));
  const up = Math.min(over / 2, lines[0].at - LINE_PX / 2 - top);
  for (const { model, at } of lines) {
    chart.append(
      draw("circle", { cx: x + 10, cy: at - up, r: 4, fill: colour(model) }),
      draw("text", { x: x + 20, y: at - up, dy: "0.32em", class: "direct", "text-anchor": "start" }, shortName(model)));
  }
}

/**
 * Show the values of a chart: under the pointer, and one after the other by the arrow keys when the chart has the focus.
 * Points are {x, y, text} in pixels of the chart.
 */
function showValues(figure, chart, points) {
  const tip = make("div", { className: "tip", role: "status" });
  const ring = draw("circle", { r: 7, class: "ring", visibility: "hidden" });
  chart.append(ring);
  let at = -1;
  const hide = () => { at = -1; tip.textContent = ""; ring.setAttribute("visibility", "hidden"); };
  const reveal = (n) => {
    at = n;
    const { x, y, text } = points[n];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.setAttribute("visibility", "visible");
    if (tip.textContent !== text) tip.textContent = text;
    const side = x > chart.clientWidth / 2 ? -1 : 1;
    const left = chart.offsetLeft ?? 0, box = chart.getBoundingClientRect(), around = figure.getBoundingClientRect();
    tip.style.left = `${box.left - around.left + left + x + side * 14 - (side < 0 ? tip.offsetWidth : 0)}px`;
    tip.style.top = `${box.top - around.top + y + 14}px`;
  };
  chart.addEventListener("pointermove", ({ clientX, clientY }) => {
    const box = chart.getBoundingClientRect();
    const apart = ({ x, y }) => Math.hypot(box.left + x - clientX, box.top + y - clientY);
    const nearest = points.reduce((best, point, n) => (apart(point) < apart(points[best]) ? n : best), 0);
    if (points.length && apart(points[nearest]) < NEAR_PX) reveal(nearest);
    else hide();
  });
  chart.addEventListener("pointerleave", hide);
  figure.onblur = hide;
  figure.onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!by || !points.length) return;
    reveal((at + by + points.length + (at < 0 && by < 0 ? 1 : 0)) % points.length);
    event.preventDefault();
  };
  figure.append(tip);
}

const charts = [];
/** Let a figure be drawn now, and anew when its width or what it shows changes; `paint(width)` gives its content. */
function addChart(figure, name, paint, ...shows) {
  figure.tabIndex = 0;
  figure.role = "group";
  figure.ariaLabel = `${name}. Arrow keys step through its values.`;
  let width = 0;
  const redraw = () => {
    width = figure.clientWidth;
    const { content, chart, points } = paint(width);
    figure.replaceChildren(...content);
    if (chart) showValues(figure, chart, points);
  };
  onStateLater((before) => { if (changed(before, ...shows)) redraw(); });
  new ResizeObserver(() => { if (state && figure.clientWidth && figure.clientWidth !== width) redraw(); }).observe(figure);
  charts.push({ figure, name });
}
