"use strict";
(() => {
  const VS = window.VS, core = VS.core, $ = (id) => document.getElementById(id), PAGE = 30;
  const el = (tag, props = {}, ...kids) => { const e = Object.assign(document.createElement(tag), props); e.append(...kids); return e; };
  const thumb = (n, alt) => el("img", { src: `thumbs/${Math.floor(n / 1000)}/${n}.webp`, alt, loading: "lazy" });
  const caption = (q, tag = "span") => el(tag, { dir: "auto", className: "caption", textContent: core.texts[q] });
  const link = (q) => "#query=" + encodeURIComponent(core.ids[q]);
  const lower = core.texts.map((t) => t.toLowerCase());
  let found = [], page = 0, current = -1;
  core.models.forEach((m, i) => { $("a").add(new Option(m, i)); $("b").add(new Option(m, i)); });
  $("b").selectedIndex = Math.min(1, core.models.length - 1);
  [...new Set(core.labels)].sort().forEach((c) => { if (c) $("class").add(new Option(c, c)); });
  function load(name, file) {
    if (VS[name]) return Promise.resolve(VS[name]);
    return new Promise((done, fail) => document.head.append(el("script", { src: `data/${file}.js`, onload: () => done(VS[name]), onerror: fail })));
  }
  function filter() {
    const a = core.ranks[$("a").value], b = core.ranks[$("b").value], wrong = core.wrong[$("a").value];
    const low = +$("low").value || 1, high = +$("high").value || Infinity, text = $("text").value.trim().toLowerCase();
    const kind = $("class").value, outcome = $("outcome").value, sort = $("sort").value;
    found = [];
    for (let q = 0; q < a.length; q++) {
      if (outcome === "ab" ? !(a[q] === 1 && b[q] > 1) : a[q] < low || a[q] > high) continue;
      if (outcome === "ba" && !(a[q] > 1 && b[q] === 1)) continue;
      if (kind && (wrong[q] < 0 || core.labels[wrong[q]] !== kind)) continue;
      if (text && !lower[q].includes(text)) continue;
      found.push(q);
    }
    if (sort !== "id") found.sort((x, y) => (sort === "loss" ? a[y] - a[x] : a[x] - a[y]) || x - y);
    page = 0; draw();
  }
  function draw() {
    const part = found.slice(page * PAGE, (page + 1) * PAGE), a = core.ranks[$("a").value];
    $("count").textContent = `${found.length.toLocaleString("en")} of ${core.ids.length.toLocaleString("en")} queries`;
    $("list").replaceChildren(...part.map((q) => {
      const line = el("a", { href: link(q) }, thumb(core.relevant[q], ""), el("span", { dir: "auto", textContent: core.texts[q] }), el("span", { textContent: "rank " + a[q] }));
      if (q === current) line.setAttribute("aria-current", "true");
      return el("li", {}, line);
    }));
    $("back").disabled = page === 0; $("more").disabled = (page + 1) * PAGE >= found.length;
  }
  async function open(q) {
    current = q; draw();
    const n = Math.floor(q / core.block), block = await load("block" + n, "block-" + n), at = q - n * core.block;
    if (current !== q) return;
    const relevant = core.relevant[q], kids = [caption(q, "p"), el("p", {}, el("a", { href: link(q), textContent: "Link to " + core.ids[q] })),
      el("div", { className: "grid" }, el("figure", {}, thumb(relevant, "relevant image"), el("figcaption", { className: "good", textContent: "relevant" })))];
    core.models.forEach((m, i) => kids.push(el("h3", { textContent: `${m}: rank ${core.ranks[i][q]}` }), el("div", { className: "grid" },
      ...block.top[i][at].map((image, r) => el("figure", {}, thumb(image, core.labels[image]), el("figcaption", { className: image === relevant ? "good" : "bad",
        textContent: `${r + 1}. ${image === relevant ? "relevant" : core.labels[image]} ${block.scores[i][at][r].toFixed(3)}` }))))));
    $("detail").replaceChildren(...kids);
  }
  function route() {
    const match = /^#query=(.*)$/.exec(location.hash);
    if (!match) return;
    let id; try { id = decodeURIComponent(match[1]); } catch { return; }
    const q = core.ids.indexOf(id);
    if (q >= 0) open(q);
  }
  function step(by) {
    const at = found.indexOf(current) + by;
    if (at < 0 || at >= found.length) return;
    page = Math.floor(at / PAGE); location.hash = link(found[at]);
  }
  addEventListener("keydown", (e) => {
    if (e.target.closest("input,select") || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "j") step(1); if (e.key === "k") step(-1);
  });
  $("filters").addEventListener("input", filter); $("filters").addEventListener("submit", (e) => e.preventDefault());
  $("back").onclick = () => { page--; draw(); }; $("more").onclick = () => { page++; draw(); };
  $("theme").onclick = () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme:dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  };
  $("show").onclick = async () => {
    const s = await load("suspects", "suspects"), item = ([q, image, n], what) => el("li", {}, el("a", { href: link(q), dir: "auto", textContent: core.texts[q] }), ` – ${core.labels[image]}, ${n} ${what}`);
    const part = (title, rows) => [el("h3", { textContent: `${title} (${rows.length}, first 100 shown)` }), el("ol", {}, ...rows.slice(0, 100))];
    $("suspect-list").replaceChildren(...part("Several models agree", s.agreed.map((r) => item(r, "models"))), ...part("Near duplicates", s.near.map((r) => item(r, "bits apart"))),
      ...part("Same caption", s.same.map((g) => el("li", {}, caption(g[0]), ` – ${g.length} queries`))));
  };
  addEventListener("hashchange", route); filter(); route();
})();
