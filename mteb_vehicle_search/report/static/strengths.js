"use strict";
// Scores of the chosen models by one division of the captions; a label leads to the failures of its captions.

/** The labels of the parts of a division, at the left of a chart; each leads to its failures. */
const partNames = (parts, aim) => Plot.text(parts, {
  y: "label", frameAnchor: "left", textAnchor: "end", dx: -12, fill: "var(--accent)",
  text: ({ label, queries }) => `${label} (${count(queries)})`,
  title: ({ label, queries, images }) => `${label}: ${count(queries)} captions of ${count(images)} images`,
  href: ({ label }) => aim(label),
});

{
  const BAR = { strokeWidth: 4, strokeOpacity: 0.35, strokeLinecap: "butt" };
  const highest = core.strengths.flatMap(({ parts }) => parts.flatMap(({ scores }) => scores.map(([mean, , high]) => high ?? mean)));
  const end = Math.max(0.1, ...highest);

  function paint({ title, parts }, width) {
    const models = chosen(), narrow = width < 480, values = [], step = models.length > 4 ? 5 : models.length > 3 ? 6 : 8;
    // Room for the names, at the right of the bars.
    const names = narrow ? 0 : Math.max(...models.map((model) => 20 + 6.2 * shortName(model).length));
    const marks = [
      Plot.gridX(GRID),
      Plot.axisX({ anchor: "top", label: null, ticks: 5, tickSize: 0, color: "var(--soft)" }),
      partNames(parts, (label) => aimAt({ part: label })),
    ];
    models.forEach((model, place) => {
      const dy = (place - (models.length - 1) / 2) * step;
      const rows = parts.map(({ label, scores }) => {
        const [mean, low, high] = scores[model];
        values.push({ model, label, mean, low, high, dy });
        return { label, mean, low, high };
      });
      marks.push(
        Plot.link(rows.filter(({ low }) => low !== null),
          { x1: "low", x2: "high", y1: "label", y2: "label", dy, stroke: colour(model), ...BAR }),
        Plot.dot(rows, { x: "mean", y: "label", dy, r: 3.2, fill: colour(model) }));
    });
    const chart = plot({
      width, height: 30 + parts.length * (step * models.length + (step < 6 ? 4 : 6)),
      marginTop: 22, marginLeft: narrow ? 150 : 178, marginRight: 14 + Math.min(names, 0.34 * width), marginBottom: 6,
      style: { ...STYLE, fontSize: narrow ? "12px" : "13px" },
      x: { domain: [0, end] }, y: { type: "band", domain: parts.map(({ label }) => label), axis: null, padding: 0 }, marks,
    });
    const band = chart.scale("y"), x = (value) => chart.scale("x").apply(value);
    const middle = ({ label, dy }) => band.apply(label) + band.bandwidth / 2 + dy;
    if (!narrow) nameLines(chart, values.filter(({ label }) => label === parts[0].label).map((value) => ({ model: value.model, y: middle(value) })), x(end), 20);
    return {
      content: [make("h3", {}, title), chart],
      chart,
      points: values.map((value) => ({
        x: x(value.mean), y: middle(value),
        text: `${core.models[value.model]}\n${value.label}: ${value.mean.toFixed(3)}\n${within(value.low, value.high, 3)}`,
      })),
    };
  }

  const figures = [...byId("strength-charts").querySelectorAll("figure")];
  core.strengths.forEach((division, n) => {
    addChart(figures[n], `nDCG@10 by ${division.title}`, (width) => paint(division, width), "models");
  });
}
