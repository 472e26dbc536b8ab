"use strict";
// What can be taken along: every table as Markdown, LaTeX and CSV, every chart as SVG and PNG.

const PNG_SCALE = 2;

/** The cells of a table as text, row by row; what is drawn has none. A cell over several columns is followed by empty ones. */
function cellsOf(table) {
  const drawn = (cell) => cell.classList.contains("drawn");
  const columns = [...table.tHead.rows[0].cells].filter((cell) => !drawn(cell)).length;
  return [...table.rows].map((row) => {
    const texts = [...row.cells].filter((cell) => !drawn(cell)).map((cell) => (cell.innerText || cell.textContent).trim().replace(/\s+/g, " "));
    return [...texts, ...Array(Math.max(0, columns - texts.length)).fill("")];
  });
}

const isNumeric = (text) => /^[+−±-]?[\d.,]+$/.test(text);
const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "−": "$-$", "±": "$\\pm$", "–": "--" };

const FORMS = {
  Markdown([head, ...rows]) {
    const line = (cells) => `| ${cells.map((text) => text.replace(/[\\|<>[\]*_`]/g, "\\$&")).join(" | ")} |`;
    return [line(head), `|${head.map((_, n) => (rows.every((row) => !/[a-z]{3}/i.test(row[n])) ? " --: " : " --- ")).join("|")}|`, ...rows.map(line)].join("\n");
  },
  LaTeX([head, ...rows]) {
    const line = (cells) => `${cells.map((text) => text.replace(/[&%$#_{}\\~^−±–]/g, (sign) => LATEX[sign] ?? `\\${sign}`)).join(" & ")} \\\\`;
    return [`\\begin{tabular}{l${"r".repeat(head.length - 1)}}`, "\\hline", line(head), "\\hline", ...rows.map(line), "\\hline", "\\end{tabular}"].join("\n");
  },
  CSV(rows) {
    // A text that a spreadsheet would take for a formula is kept a text.
    const plain = (text) => text.replace(/^−/, "-");
    const safe = (text) => (/^[=+\-@\t]/.test(plain(text)) && !isNumeric(text) ? `'${text}` : isNumeric(text) ? plain(text).replace(/[+,]/g, "") : text);
    return rows.map((row) => row.map(safe).map((text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text)).join(",")).join("\r\n");
  },
};

/** Buttons under a table that is there, or will be made, in a place. */
function offerTable(place) {
  const buttons = Object.entries(FORMS).map(([name, write]) => {
    const one = button(name, () => copy(write(cellsOf(place.querySelector("table"))), one), { className: "quiet" });
    return one;
  });
  // Where the page keeps room for them, they take it.
  const room = place.nextElementSibling?.matches(".take:empty") ? place.nextElementSibling : make("div", { className: "take" });
  room.append("Copy as ", ...buttons);
  place.after(room);
}

/** An image of a chart that needs no style sheet: variables are replaced by what they stand for. */
function standalone(chart) {
  const copied = chart.cloneNode(true), style = getComputedStyle(document.documentElement);
  copied.querySelector(".ring")?.remove();
  const sizes = { width: chart.clientWidth, height: chart.clientHeight };
  for (const [name, value] of Object.entries({ ...sizes, xmlns: "http://www.w3.org/2000/svg" })) copied.setAttribute(name, value);
  for (const text of copied.querySelectorAll(".direct")) text.setAttribute("fill", "var(--ink)");
  copied.style.fontFamily = "sans-serif";
  copied.prepend(draw("rect", { width: "100%", height: "100%", fill: "var(--ground)" }));
  copied.setAttribute("color", "var(--ink)");
  return new XMLSerializer().serializeToString(copied).replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

const asAddress = (text) => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;

/** Draw an image of a chart in pixels. */
async function asPixels(text, { clientWidth, clientHeight }) {
  const drawn = make("img", { src: asAddress(text) }), canvas = make("canvas", { width: clientWidth * PNG_SCALE, height: clientHeight * PNG_SCALE });
  await drawn.decode();
  canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}

function offerChart({ figure, name }) {
  const chart = () => figure.querySelector(":scope > svg");
  const file = name.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const download = async (kind) => {
    const text = standalone(chart());
    make("a", { download: `${file}.${kind}`, href: kind === "svg" ? asAddress(text) : await asPixels(text, chart()) }).click();
  };
  figure.after(make("div", { className: "take drawn" }, "Download ",
    ...["svg", "png"].map((kind) => button(kind.toUpperCase(), () => download(kind), { className: "quiet" }))));
}

for (const table of document.querySelectorAll("main table, main [data-table]")) offerTable(table.closest(".scroll, [data-table]") ?? table);
charts.forEach(offerChart);
