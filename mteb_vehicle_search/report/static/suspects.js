"use strict";
// Likely false negatives, with their images; a few at a time.

{
  const AT_ONCE = 4;
  const aim = (link) => { link.href = aimAt({ query: keys[link.dataset.row] }); };
  /** A link to a query, with the models that are chosen then. */
  function toQuery(row, properties, ...children) {
    const link = make("a", properties, ...children);
    link.dataset.row = row;
    if (state) aim(link);
    return link;
  }

  const VERDICTS = { 3: "Confirmed", 2: "Partly confirmed", 1: "Refused", 0: "Not settled" };
  /** What people said of a suspect, by the captions of the relevant image. */
  function verdict({ grade, captions, judged }) {
    const some = judged === 1 ? "one judged caption" : captions === judged ? `all ${judged} judged captions` : `${captions} of ${judged} judged captions`;
    return make("p", { className: `verdict-${grade}` }, make("b", {}, VERDICTS[grade]), `: “${core.grades[grade]}” for ${some}`);
  }

  /** Two images side by side, what people said, the captions that mix them up, and why they are here. */
  function pair({ relevant, image, rows, judged }, why) {
    const links = rows.slice(0, 2).map((row) => toQuery(row, {}, caption(row)));
    if (rows.length > links.length) links.push(make("small", {}, `and ${plural(rows.length - links.length, "other caption")}`));
    const label = classOf(image);
    return make("li", { className: "suspect" },
      make("div", { className: "two" },
        make("figure", { className: "relevant" }, frame(relevant, "the relevant image"),
          make("figcaption", {}, make("b", {}, "relevant"))),
        make("figure", { className: judgedClass(judged?.grade) }, frame(image, label), make("figcaption", {}, make("b", {}, label), make("small", {}, sourceOf(image))))),
      ...(judged ? [verdict(judged)] : []), make("p", { className: "why" }, why), ...links);
  }

  /** How many there are, and how many of them people confirmed and refused. */
  function told(suspects) {
    const said = (grade) => suspects.filter(({ judged }) => judged?.grade === grade).length;
    const parts = [[said(3), "confirmed"], [said(1), "refused"]].filter(([number]) => number);
    return [count(suspects.length), ...parts.map(([number, word]) => `${count(number)} ${word}`)].join(", ");
  }

  /** One caption that several queries share, with the image that each of them wants. */
  function shared(rows) {
    return make("li", { className: "suspect" }, caption(rows[0]),
      make("p", { className: "why" }, `${plural(rows.length, "query")}, each with its own image`),
      make("div", { className: "several" }, ...rows.slice(0, 8).map((row) =>
        toQuery(row, { ariaLabel: `Query ${keys[row]}` }, frame(core.relevant[row])))));
  }

  /** One list of suspects; without a single one, `none` says what that means. */
  function part(title, explanation, items, card, { none = "None.", number = count(items.length), who = [] } = {}) {
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
    return make("details", {}, make("summary", {}, make("h3", {}, `${title} `, make("span", { className: "tag" }, number))),
      make("p", {}, explanation), ...who, items.length ? list : make("p", { className: "note" }, none), more);
  }

  const { voters, agreed, hashed, near, same } = VS.suspects;
  const voting = voters.filter((one) => one.votes).length, enough = voting >= 2;

  /** Every run, whether it votes, and why. */
  const list = make("ul", { className: "voters" }, ...voters.map(({ votes, why }, model) =>
    make("li", {}, make("b", {}, core.models[model]), votes ? ` votes: ${why}` : ` does not vote: ${why}`)));
  const who = voters.length > 3
    ? make("details", {}, make("summary", {}, `${plural(voting, "model")} of ${count(voters.length)} vote${voting === 1 ? "s" : ""}`), list) : list;

  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const evidence = ({ agreement, models, rows, captions, rank }) =>
    `Agreement ${percent(agreement)}: ${models} of ${plural(voting, "voting model")} put it first, for ${rows.length} of ` +
    `${plural(captions, "caption")} of the relevant image, which is at rank ${count(rank)} there (median).`;
  const likeness = ({ bits, colour }) =>
    `${plural(bits, "bit")} of 64 differ${bits === 1 ? "s" : ""}, colours by at most ${colour} of 255.`;

  const afterwards = core.grades ? ", after those that people confirmed; refused ones come last" : "";

  byId("suspect-list").append(
    part("Several models agree", "Two voting models put the same wrong image first for one caption. A model votes " +
      "if its ranks are better than chance (sign flips by image, 5\u00a0% over all runs), and its vote weighs as much as its " +
      "mean reciprocal rank (MRR). Agreement is the suspect’s share, by weight, of all votes on the captions of the relevant " +
      `image; the most comes first${afterwards}.`, agreed, (one) => pair(one, evidence(one)), {
      none: enough ? "No two voting models agree on a wrong image." :
        `This needs two voting models; there ${voting === 1 ? "is one" : "is none"}. Nothing is known here, one way or the other.`,
      number: enough ? told(agreed) : "unknown",
      who: [who],
    }),
    part("Near duplicates", "An image in a top ten that looks like the relevant one: their perceptual hashes and the colours of " +
      `their parts hardly differ${near.length ? afterwards : ""}.`, near, (one) => pair(one, likeness(one)), hashed ? { number: told(near) } : {
      none: "The set tells no perceptual hashes, so that nothing is known here.",
      number: "unknown",
    }),
    part("Same text", "One caption, several queries, different images: at most one of them can come first.", same, shared));

  onState((before) => { if (changed(before, "models")) byId("suspect-list").querySelectorAll("a[data-row]").forEach(aim); });
}
