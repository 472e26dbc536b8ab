"use strict";
// Score by number of distractors: exact up to what was searched, then modelled, then on shaded ground.

{
  const TOO_FAR = "too far to trust", WHOLE = 290;
  const stroke = (kind) => make("li", {}, make("i", { className: `stroke ${kind}` }), kind);

  function paint(width) {
    const curves = chosen().map((model) => ({
      model,
      points: core.growth.find((curve) => curve.model === core.models[model]).points
        .map(([x, y, low, high, kind]) => ({ x, y, low, high, kind, model })),
    })).filter(({ points }) => points.length);
    if (!curves.length) return { content: [make("p", {}, "There is no curve.")] };
    const all = curves.flatMap(({ points }) => points), numbers = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b);
    const last = numbers.at(-1), top = Math.max(...all.map(({ y, high }) => high ?? y)) || 1;
    const searched = all.find(({ kind }) => kind === "measured").x;
    const trusted = Math.max(...all.filter(({ kind }) => kind !== TOO_FAR).map(({ x }) => x));
    const far = trusted < last, narrow = width < 560;
    // A scale that begins with 0; above the first step it is all but logarithmic.
    const constant = numbers[1] ?? 1;
    const ticks = [0, ...[2, 3, 4, 5, 6, 7].map((e) => 10 ** e).filter((n) => n >= constant && n <= last)];
    const marks = [
      far && Plot.rect([0], { x1: trusted, x2: last, y1: 0, y2: top, fill: "var(--shade)" }),
      Plot.gridY(GRID),
      Plot.axisX({ ...AXIS, ticks: narrow ? ticks.filter((_, n) => n % 2 === 0) : ticks, tickFormat: short, label: "distractors" }),
      Plot.axisY({ ...AXIS, ticks: 5, tickSize: 0, label: "nDCG@10" }),
      Plot.ruleX([searched], { y1: 0, y2: top, stroke: "var(--soft)", strokeDasharray: "2 3" }),
      ...curves.flatMap(({ model, points }) => curveMarks(model, points, searched, trusted)),
    ];
    const chart = plot({
      width, height: WHOLE, marginTop: 34, marginLeft: 34, marginRight: Math.min(32 + 7 * Math.max(...curves.map(({ model }) => shortName(model).length)), width * 0.4),
      marginBottom: 40, x: { type: "symlog", constant, domain: [0, last || 1] }, y: { domain: [0, top] }, marks,
      ariaLabel: "nDCG@10 by number of distractors; the table below has the figures",
    });
    chart.setAttribute("role", "img");
    const x = (n) => chart.scale("x").apply(n), y = (n) => chart.scale("y").apply(n);
    const note = (n, text) => chart.append(draw("text",
      { x: n, y: 20, "text-anchor": "middle", fill: "var(--soft)" }, text));
    note(x(searched), "searched");
    if (far && !narrow) note((x(trusted) + x(last)) / 2, TOO_FAR);
    nameLines(chart, curves.map(({ model, points }) => ({ model, y: y(points.at(-1).y) })), x(last));
    const kinds = all.some(({ kind }) => kind === "estimated") ? ["exact", "measured", "estimated"]
      : ["exact", "measured", "modelled", TOO_FAR];
    return {
      content: [make("ul", { className: "legend" }, ...kinds.map(stroke)), chart],
      chart,
      points: all.map((p) => ({
        x: x(p.x), y: y(p.y),
        text: `${core.models[p.model]}\n${count(p.x)} distractors: ${p.y.toFixed(4)}, ${p.kind}\n${within(p.low, p.high, 4)}`,
      })),
    };
  }

  function curveMarks(model, points, searched, trusted) {
    const exact = points.filter(({ x }) => x <= searched), beyond = points.filter(({ x }) => x >= searched);
    const known = ({ low }) => low !== null;
    const line = { x: "x", y: "y", stroke: colour(model), strokeWidth: 2.25 };
    const band = { x: "x", y1: "low", y2: "high", fill: colour(model) };
    return [
      Plot.areaY(exact.filter(known), { ...band, fillOpacity: 0.24 }),
      Plot.areaY(beyond.filter(known), { ...band, fillOpacity: 0.12 }),
      Plot.line(exact, line),
      Plot.line(beyond.filter(({ x }) => x <= trusted), { ...line, strokeDasharray: "7 5" }),
      Plot.line(beyond.filter(({ x }) => x >= trusted), { ...line, strokeDasharray: "1 5", strokeLinecap: "round" }),
      Plot.dot([exact.at(-1)], { x: "x", y: "y", r: 5, fill: colour(model), stroke: "var(--ground)", strokeWidth: 1.5 }),
    ];
  }

  addChart(byId("growth-chart"), "nDCG@10 by number of distractors", paint, "models");
}
