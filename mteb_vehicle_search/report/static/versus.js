"use strict";
// A against B: what two models differ by, over all captions and by parts of them, the captions that decide it, and all pairs.

{
  const SIGNIFICANCE = 0.05, SHOWN_EACH = 3;
  const plus = (value, digits = 4) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(digits);
  const chance = (p) => (p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`);
  const ends = ([, low, high], digits) => (low === null ? "no interval: too few images" : `95 % interval ${plus(low, digits)} to ${plus(high, digits)}`);
  const place = (a, b) => (a * (2 * core.models.length - a - 1)) / 2 + b - a - 1;
  const mirrored = ([mean, low, high, ...rest]) => [-mean, high === null ? null : -high, low === null ? null : -low, ...rest];

  /** What stands for the first of two models less the second, whichever comes first on the page. */
  const between = (list, a, b) => (a < b ? list[place(a, b)] : mirrored(list[place(b, a)]));
  function overall(a, b) {
    const [mean, low, high, p, adjusted, wins, losses] = between(VS.pairs.all, a, b);
    return { mean, low, high, p, adjusted, wins: a < b ? wins : losses, losses: a < b ? losses : wins };
  }

  function sentence(a, b) {
    const { mean, low, high, p, adjusted, wins, losses } = overall(a, b), total = new Set(core.ids).size;
    const pairs = VS.pairs.all.length, [first, second] = [core.models[a], core.models[b]];
    const apart = p < SIGNIFICANCE;
    const verdict = apart ? `${mean > 0 ? first : second} is better than ${mean > 0 ? second : first}`
      : `These runs do not tell ${first} and ${second} apart`;
    return [
      make("p", { className: "verdict" }, make("strong", {}, verdict), `: nDCG@10 differs by `,
        make("b", { className: apart ? (mean > 0 ? "good" : "bad") : "" }, plus(mean)), ` (${ends([mean, low, high], 4)}, ${chance(p)}` +
        `${pairs > 1 ? `; ${chance(adjusted)} adjusted for ${count(pairs)} pairs` : ""}).`),
      make("p", {}, `Of ${plural(total, "caption")} ${first} does better for ${count(wins)}, worse for ${count(losses)}, and the same for ` +
        `${count(total - wins - losses)}. Plus is in favour of ${first}.`),
    ];
  }

  /** Differences by the parts of one division, around zero; a label leads to the captions that the first model wins there. */
  function paint(n, width) {
    const a = numberOf(state.model), b = numberOf(state.vs), { title, parts } = VS.pairs.parts[n], narrow = width < 480;
    if (a === b) return { content: [] };
    const rows = parts.map((part) => {
      const [mean, low, high, p] = between(part.differences, a, b);
      return { ...part, mean, low, high, p, tone: p < SIGNIFICANCE ? (mean > 0 ? "var(--good)" : "var(--bad)") : "var(--soft)" };
    });
    const reach = Math.max(0.02, ...VS.pairs.parts.flatMap((one) => one.parts.flatMap((part) =>
      between(part.differences, a, b).slice(0, 3).map((value) => Math.abs(value ?? 0)))));
    const chart = plot({
      width, height: 30 + 17 * rows.length, marginTop: 22, marginLeft: narrow ? 150 : 178, marginRight: 14, marginBottom: 6,
      style: { ...STYLE, fontSize: narrow ? "12px" : "13px" },
      x: { domain: [-reach, reach] }, y: { type: "band", domain: rows.map(({ label }) => label), axis: null, padding: 0 },
      marks: [
        Plot.gridX(GRID),
        Plot.axisX({ anchor: "top", label: null, ticks: narrow ? 3 : 5, tickSize: 0, color: "var(--soft)", tickFormat: (value) => value ? plus(value, 2) : "0" }),
        Plot.ruleX([0], { stroke: "var(--soft)" }),
        partNames(rows, (label) => aimAt({ model: state.model, vs: state.vs, part: label, sort: "wins" })),
        Plot.link(rows.filter(({ low }) => low !== null), {
          x1: "low", x2: "high", y1: "label", y2: "label", stroke: "tone", strokeWidth: 5, strokeOpacity: 0.35, strokeLinecap: "butt",
        }),
        Plot.dot(rows, { x: "mean", y: "label", r: 4, fill: "tone" }),
      ],
      color: { type: "identity" },
    });
    const band = chart.scale("y");
    return {
      content: [make("h3", {}, title), chart], chart,
      points: rows.map((row) => ({
        x: chart.scale("x").apply(row.mean), y: band.apply(row.label) + band.bandwidth / 2,
        text: `${row.label}: ${plus(row.mean, 3)}\n${ends([row.mean, row.low, row.high], 3)}\n${chance(row.p)}, adjusted for the parts`,
      })),
    };
  }

  function figuresTable(a, b) {
    const rows = VS.pairs.parts.flatMap(({ parts }) => parts).map((part) => {
      const [mean, low, high, p] = between(part.differences, a, b);
      const cells = [count(part.queries), count(part.images), plus(mean), low === null ? "–" : `${plus(low)} to ${plus(high)}`, p.toFixed(4)];
      return make("tr", {}, make("th", { scope: "row", className: "text" }, part.label), ...cells.map((text) => make("td", {}, text)));
    });
    const heads = ["Captions", "Number", "Images", "Difference", "95 % interval", "p, adjusted"];
    return make("table", {}, make("caption", {}, `${core.models[a]} less ${core.models[b]}, nDCG@10`),
      make("thead", {}, make("tr", {}, ...heads.map((text, n) => make("th", { scope: "col", className: n ? "" : "text" }, text)))),
      make("tbody", {}, ...rows));
  }

  /** The captions that speak most for one of two models. */
  function deciding(model, other) {
    const own = ofModel(model).ranks, its = ofModel(other).ranks;
    const rows = [...keys.keys()].filter((row) => own[row] < its[row])
      .sort((x, y) => decides(own[y], its[y]) - decides(own[x], its[x]) || x - y);
    const aim = { model: core.models[model], vs: core.models[other], sort: "wins" };
    const item = (row) => make("li", {}, make("a", { href: aimAt({ ...aim, query: keys[row] }) }, frame(core.relevant[row]), caption(row),
      make("small", {}, `rank ${count(own[row])} against ${count(its[row])}`)));
    return make("div", {}, make("h3", {}, swatch(model), `What ${core.models[model]} wins`),
      rows.length ? make("ol", { className: "deciding" }, ...rows.slice(0, SHOWN_EACH).map(item)) : make("p", { className: "note" }, "No caption."),
      rows.length > SHOWN_EACH ? make("a", { href: aimAt(aim) }, `All ${count(rows.length)}, most telling first`) : "");
  }

  /** Every pair in a square: the row's model less the column's. */
  function matrix() {
    const numbers = core.models.map((_, n) => n), current = [numberOf(state.model), numberOf(state.vs)];
    const cell = (a, b) => {
      if (a === b) return make("td", {}, "–");
      const { mean, low, high, adjusted } = overall(a, b), apart = adjusted < SIGNIFICANCE;
      const to = button(plus(mean, 3), () => { show(withPair(state, core.models[a], core.models[b])); byId("versus").scrollIntoView(); }, {
        className: apart ? (mean > 0 ? "good" : "bad") : "",
        title: `${core.models[a]} less ${core.models[b]}: ${ends([mean, low, high], 4)}, ${chance(adjusted)} adjusted`,
      });
      if (a === current[0] && b === current[1]) to.setAttribute("aria-current", "true");
      return make("td", {}, to);
    };
    return make("table", { className: "matrix" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col", className: "name" }, "Model"),
        make("th", { scope: "col", title: "Models that share a letter are not told apart" }, "Letters"),
        ...numbers.map((n) => make("th", { scope: "col", title: core.models[n] }, String(n + 1))))),
      make("tbody", {}, ...numbers.map((a) => make("tr", {}, make("th", { scope: "row", className: "name" }, `${a + 1}. ${core.models[a]}`),
        make("td", {}, VS.pairs.letters[a]), ...numbers.map((b) => cell(a, b))))));
  }

  /** Fill a choice with all models. */
  function choice(name) {
    const field = byId(`versus-${name}`);
    field.append(...core.models.map((model) => new Option(model)));
    field.addEventListener("input", () => {
      const other = name === "model" ? "vs" : "model";
      // The same model on both sides: they change places.
      const pair = { [name]: field.value, [other]: field.value === state[other] ? state[name] : state[other] };
      show({ ...withPair(state, pair.model, pair.vs), page: "1", query: "" });
    });
    onState(() => { field.value = state[name]; });
  }

  if (VS.pairs) {
    choice("model");
    choice("vs");
    byId("swap").addEventListener("click", () => show({ ...withPair(state, state.vs, state.model), page: "1", query: "" }));
    onStateLater((before) => {
      if (!changed(before, "models", "model", "vs")) return;
      const a = numberOf(state.model), b = numberOf(state.vs), alone = a === b;
      byId("verdict").replaceChildren(...(alone ? [make("p", {}, "Choose a second model.")] : sentence(a, b)));
      byId("versus-figures").replaceChildren(...(alone ? [] : [figuresTable(a, b)]));
      byId("deciding").replaceChildren(...(alone ? [] : [deciding(a, b), deciding(b, a)]));
      drawPairs();
    });
    // Hundreds of cells: only while they are looked at.
    const pairs = byId("all-pairs"), drawPairs = () => { if (pairs?.open) byId("matrix").replaceChildren(matrix()); };
    pairs?.addEventListener("toggle", drawPairs);
    const figures = [...byId("versus-charts").querySelectorAll("figure")];
    figures.forEach((figure, n) => addChart(figure, `Difference by ${VS.pairs.parts[n].title}`, (width) => paint(n, width), "model", "vs"));
  }
}
