"use strict";
// What a score costs: in parameters, and in time. All models that tell; the front is of those that no other beats in both.

{
  const COSTS = [
    { key: "parameters", title: "Against parameters", label: "parameters", better: -1 },
    { key: "rate", title: "Against speed", label: "images encoded per second, as measured", better: 1 },
  ];

  /** The models that no other beats in score and cost at once, cheapest first. */
  function front(models, better) {
    const best = [...models].sort((a, b) => better * (b.x - a.x) || b.y - a.y);
    return best.filter((one, n) => best.slice(0, n).every((other) => other.y < one.y));
  }

  function paint({ key, title, label, better }, width) {
    const models = core.costs
      .map((one, model) => ({ model, x: one[key], y: one.score, low: one.low, high: one.high }))
      .filter(({ x, y }) => x > 0 && y !== null);
    const heading = make("h3", {}, title);
    const without = core.models.filter((_, model) => !models.some((one) => one.model === model));
    const note = without.length ? [make("p", { className: "note" }, `Not known of ${without.join(", ")}.`)] : [];
    if (!models.length) return { content: [heading, ...note] };
    const best = front(models, better), values = models.map(({ x }) => x);
    const low = Math.min(...values) / 1.6, high = Math.max(...values) * 1.6;
    const bottom = Math.min(...models.map(({ y, low: end }) => end ?? y)), top = Math.max(...models.map(({ y, high: end }) => end ?? y));
    const room = 0.08 * (top - bottom) || 0.05;
    const chart = plot({
      width, height: 260, marginTop: 26, marginLeft: 40, marginRight: 16, marginBottom: 40,
      x: { type: "log", domain: [low, high] }, y: { domain: [Math.max(0, bottom - room), Math.min(1, top + room)] },
      ariaLabel: `nDCG@10 by ${label}`,
      marks: [
        Plot.gridY(GRID),
        Plot.axisX({ ...AXIS, tickFormat: short, ticks: Math.min(6, width / 80), label }),
        Plot.axisY({ ...AXIS, ticks: 5, tickSize: 0, label: "nDCG@10" }),
        Plot.line(best, { x: "x", y: "y", curve: better < 0 ? "step-after" : "step-before", stroke: "var(--soft)", strokeDasharray: "3 3" }),
        Plot.link(models.filter((one) => one.low !== null), {
          x1: "x", x2: "x", y1: "low", y2: "high", stroke: ({ model }) => colour(model), strokeWidth: 4, strokeOpacity: 0.3,
        }),
        Plot.dot(models, { x: "x", y: "y", r: 4.5, fill: ({ model }) => colour(model), stroke: "var(--ground)" }),
      ],
    });
    chart.setAttribute("role", "img");
    const points = models.map((one) => ({ ...one, x: chart.scale("x").apply(one.x), y: chart.scale("y").apply(one.y), value: one.x }));
    nameDots(chart, points, [...chosen(), ...best.map(({ model }) => model)], width);
    return {
      content: [heading, chart, ...note],
      chart,
      points: points.map((p) => ({
        x: p.x, y: p.y,
        text: `${core.models[p.model]}\nnDCG@10 ${core.costs[p.model].score.toFixed(4)}, ${within(p.low, p.high, 4)}\n` +
          `${count(Math.round(p.value))} ${key === "rate" ? "images/s" : "parameters"}${best.some(({ model }) => model === p.model) ? "; on the front" : ""}`,
      })),
    };
  }

  /** Names beside the dots of these models, first come first served, where they hide no other. */
  function nameDots(chart, points, models, width) {
    const taken = points.map(({ x, y }) => [x - 6, x + 6, y - 6, y + 6]);
    for (const model of new Set(models)) {
      const dot = points.find((one) => one.model === model);
      if (!dot) continue;
      const name = shortName(model), long = name.length * 6.9;
      const places = [[9, 0, "start"], [-9, 0, "end"], [0, -14, "middle"], [0, 15, "middle"]];
      for (const [dx, dy, anchor] of places) {
        const left = dot.x + dx - { start: 0, end: long, middle: long / 2 }[anchor], y = dot.y + dy;
        const box = [left, left + long, y - 7, y + 7];
        const free = box[0] > 36 && box[1] < width && taken.every(([a, b, c, d]) => box[1] < a || box[0] > b || box[3] < c || box[2] > d
          || (a === dot.x - 6 && c === dot.y - 6 && dx));
        if (!free) continue;
        taken.push(box);
        chart.append(draw("text", { x: dot.x + dx, y, dy: "0.32em", class: "direct", "text-anchor": anchor }, name));
        break;
      }
    }
  }

  const figures = [...byId("cost-charts").querySelectorAll("figure")];
  COSTS.forEach((cost, n) => addChart(figures[n], `nDCG@10 by ${cost.label}`, (width) => paint(cost, width), "models"));
}
