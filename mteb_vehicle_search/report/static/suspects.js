"use strict";
// Likely false negatives, with their pictures; a few at a time.

{
  const AT_ONCE = 6;
  const toQuery = (row) => writeHash({ ...DEFAULTS, query: keys[row] });

  /** Two pictures side by side, the captions that mix them up, and why they are here. */
  function pair({ relevant, image, rows }, why) {
    const links = rows.slice(0, 2).map((row) => make("a", { href: toQuery(row) }, caption(row)));
    if (rows.length > links.length) links.push(make("small", {}, `and ${plural(rows.length - links.length, "other caption")}`));
    const label = classOf(image);
    return make("li", { className: "suspect" },
      make("div", { className: "two" },
        make("figure", { className: "relevant" }, picture(relevant, "the relevant picture"),
          make("figcaption", {}, make("b", {}, "relevant"))),
        make("figure", {}, picture(image, label), make("figcaption", {}, make("b", {}, label)))),
      make("p", { className: "why" }, why), ...links);
  }

  /** One caption that several queries share, with the picture that each of them wants. */
  function shared(rows) {
    return make("li", { className: "suspect" }, caption(rows[0]),
      make("p", { className: "why" }, `${plural(rows.length, "query")}, each with its own picture`),
      make("div", { className: "several" }, ...rows.slice(0, 8).map((row) =>
        make("a", { href: toQuery(row), ariaLabel: `Query ${keys[row]}` }, picture(core.relevant[row])))));
  }

  function part(title, explanation, items, card) {
    const list = make("ul", { className: "suspects" });
    const more = make("button", { type: "button" });
    const add = () => {
      list.append(...items.slice(list.children.length, list.children.length + AT_ONCE).map(card));
      const left = items.length - list.children.length;
      more.textContent = `Show more (${count(left)} left)`;
      more.hidden = left === 0;
    };
    more.addEventListener("click", add);
    add();
    return make("section", {}, make("h3", {}, `${title} `, make("span", { className: "tag" }, count(items.length))),
      make("p", {}, items.length ? explanation : "None."), list, more);
  }

  const { agreed, near, same } = VS.suspects;
  byId("suspect-list").append(
    part("Several models agree", "At least two models put the same wrong picture before the relevant one.", agreed,
      (one) => pair(one, `${plural(one.models, "model")}, ${plural(one.weight, "vote")}`)),
    part("Near duplicates", "A picture in a top ten whose perceptual hash hardly differs from that of the relevant one.", near,
      (one) => pair(one, `${plural(one.weight, "bit")} of 64 differ${one.weight === 1 ? "s" : ""}`)),
    part("Same text", "One caption, several queries, different pictures: at most one of them can come first.", same, shared));
}
