"use strict";
// Corpus growth and strengths, drawn by Observable Plot as wide as there is room. Colours are CSS variables: a change
// between light and dark needs no new drawing.

{
  const STYLE = { fontFamily: "inherit", fontSize: "13px", background: "transparent", overflow: "visible" };
  const short = (n) => (n >= 1e6 ? `${n / 1e6}M` : n >= 1e3 ? `${n / 1e3}k` : String(n));
  const swatch = (model) => make("i", { className: "swatch", style: { background: colour(model) } });
  const stroke = (kind) => make("li", {}, make("i", { className: `stroke ${kind}` }), kind);

  const legend = (...more) => make("ul", { className: "legend" },
    ...core.models.map((name, model) => make("li", {}, swatch(model), name)), ...more);

  /** An interval in words; too few images have none. */
  const within = (low, high, digits) => low === null ? "no interval: too few images"
    : `95 % interval ${low.toFixed(digits)} to ${high.toFixed(digits)}`;

  /** Take off what Plot calls its groups ("rect", "link"): it says nothing, and groups may not have it. */
  const unlabel = (chart) => chart.querySelectorAll("g[aria-label]").forEach((group) => group.removeAttribute("aria-label"));

  /** Score by size of the corpus: exact up to what was searched, then modelled, then on shaded ground. */
  function growthChart(width) {
    const curves = core.growth.map((curve, model) => ({
      model, points: curve.points.map(([x, y, low, high, kind]) => ({ x, y, low, high, kind, model })),
    })).filter(({ points }) => points.length);
    if (!curves.length) return [make("p", {}, "There is no curve.")];
    const all = curves.flatMap(({ points }) => points);
    const last = Math.max(...all.map(({ x }) => x)), top = Math.max(...all.map(({ y, high }) => high ?? y)) || 1;
    const searched = all.find(({ kind }) => kind === "measured").x;
    const trusted = Math.max(...all.filter(({ kind }) => kind !== TOO_FAR).map(({ x }) => x));
    const far = trusted < last;
    const note = (x, text) => Plot.text([text], { x, y: top, text: (t) => t, dy: -12, fill: "var(--soft)" });
    const marks = [
      far && Plot.rect([0], { x1: trusted, x2: last, y1: 0, y2: top, fill: "var(--shade)" }),
      Plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 5 }),
      Plot.axisX({ tickFormat: short, ticks: width < 500 ? 4 : 8, label: "pictures in the corpus →", color: "var(--soft)" }),
      Plot.axisY({ ticks: 5, tickSize: 0, label: "nDCG@10", labelArrow: "none", color: "var(--soft)" }),
      Plot.ruleX([searched], { y1: 0, y2: top, stroke: "var(--soft)", strokeDasharray: "2 3" }),
      note(searched, "searched"),
      far && note(Math.sqrt(trusted * last), TOO_FAR),
    ];
    for (const { points, model } of curves) {
      const exact = points.filter(({ x }) => x <= searched), beyond = points.filter(({ x }) => x >= searched);
      const known = ({ low }) => low !== null;
      const line = { x: "x", y: "y", stroke: colour(model), strokeWidth: 2.25 };
      const band = { x: "x", y1: "low", y2: "high", fill: colour(model) };
      marks.push(
        Plot.areaY(exact.filter(known), { ...band, fillOpacity: 0.24 }),
        Plot.areaY(beyond.filter(known), { ...band, fillOpacity: 0.12 }),
        Plot.line(exact, line),
        Plot.line(beyond.filter(({ x }) => x <= trusted), { ...line, strokeDasharray: "7 5" }),
        Plot.line(beyond.filter(({ x }) => x >= trusted), { ...line, strokeDasharray: "1 5", strokeLinecap: "round" }),
        Plot.dot([exact.at(-1)], { x: "x", y: "y", r: 5, fill: colour(model), stroke: "var(--ground)", strokeWidth: 1.5 }));
    }
    marks.push(Plot.tip(all, Plot.pointer({
      x: "x", y: "y", fill: "var(--card)", stroke: "var(--line)",
      title: (p) => `${core.models[p.model]}\n${count(p.x)} pictures: ${p.y.toFixed(4)}, ${p.kind}\n`
        + within(p.low, p.high, 4),
    })));
    const chart = Plot.plot({
      width, height: 380, marginTop: 34, marginLeft: 34, marginRight: 12, marginBottom: 44, style: STYLE,
      x: { type: "log" }, y: { domain: [0, top] }, marks,
      ariaLabel: "nDCG@10 by size of the corpus; the table below has the figures",
    });
    chart.setAttribute("role", "img");
    unlabel(chart);
    const pooled = all.some(({ kind }) => kind === "estimated");
    const kinds = ["exact", "measured", ...(pooled ? ["estimated"] : ["modelled", TOO_FAR])];
    return [legend(...kinds.map(stroke)), chart];
  }

  /** Scores of all models by one division of the captions; a label leads to the failures of its captions. */
  function strengthChart({ title, parts }, width, end) {
    const models = core.models.length, narrow = width < 480;
    const marks = [
      Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: 5 }),
      Plot.axisX({ anchor: "top", label: null, ticks: 5, tickSize: 0, color: "var(--soft)" }),
      Plot.text(parts, {
        y: "label", frameAnchor: "left", textAnchor: "end", dx: -12, fill: "var(--accent)",
        text: ({ label, queries }) => `${label} (${count(queries)})`,
        title: ({ label, queries, images }) => `${label}: ${count(queries)} captions of ${count(images)} images`,
        href: ({ label }) => writeHash({ ...DEFAULTS, part: label }),
      }),
    ];
    for (let model = 0; model < models; model++) {
      const rows = parts.map(({ label, scores }) => {
        const [mean, low, high] = scores[model];
        return { label, mean, low, high };
      });
      const dy = (model - (models - 1) / 2) * STEP_PX;
      marks.push(
        Plot.link(rows.filter(({ low }) => low !== null), {
          x1: "low", x2: "high", y1: "label", y2: "label", dy,
          stroke: colour(model), strokeWidth: 6, strokeOpacity: 0.35, strokeLinecap: "butt",
        }),
        Plot.dot(rows, {
          x: "mean", y: "label", dy, r: 4, fill: colour(model),
          title: (d) => `${core.models[model]}\n${d.label}: ${d.mean.toFixed(3)} (${within(d.low, d.high, 3)})`,
        }));
    }
    const chart = Plot.plot({
      width, height: 40 + parts.length * (ROW_PX + STEP_PX * models),
      marginTop: 28, marginLeft: narrow ? 150 : 175, marginRight: 14, marginBottom: 6,
      style: { ...STYLE, fontSize: narrow ? "12px" : "13px" },
      x: { domain: [0, end] }, y: { type: "band", domain: parts.map(({ label }) => label), axis: null, padding: 0 }, marks,
    });
    unlabel(chart);
    return [make("h3", {}, title), chart];
  }

  const TOO_FAR = "too far to trust", STEP_PX = 11, ROW_PX = 14;
  const figures = [...byId("strength-charts").children], growthFigure = byId("growth-chart");
  const highest = core.strengths.flatMap(({ parts }) => parts.flatMap(({ scores }) => scores.map(([mean, , high]) => high ?? mean)));

  function draw() {
    growthFigure.replaceChildren(...growthChart(growthFigure.clientWidth));
    core.strengths.forEach((division, n) => {
      figures[n].replaceChildren(...strengthChart(division, figures[n].clientWidth, Math.max(0.1, ...highest)));
    });
  }

  byId("strength-charts").before(legend());
  let width = growthFigure.clientWidth;
  draw();
  new ResizeObserver(() => {
    if (growthFigure.clientWidth === width) return;
    width = growthFigure.clientWidth;
    draw();
  }).observe(growthFigure);
}
