"use strict";
// What is typed into the text field: whole words, "words in a row", and -words or -"rows" that a caption must not have.

const LETTER = "[\\p{L}\\p{N}]";

/** The terms of a text: each has a pattern, and whether captions must match it or must not. */
function termsOf(text) {
  const terms = [];
  for (const [, minus, row, word] of text.matchAll(/(-?)(?:["“”]([^"“”]*)["“”]?|([^\s"“”]+))/g)) {
    const words = (row ?? word).trim();
    if (words) terms.push({ pattern: wholeWords(words), wanted: !minus });
  }
  return terms;
}

/** A pattern of words that do not go on before or after; signs at the ends stand for themselves. */
function wholeWords(words) {
  const escaped = words.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&").replace(/\s+/g, "\\s+");
  const before = new RegExp(`^${LETTER}`, "u").test(words) ? `(?<!${LETTER})` : "";
  const after = new RegExp(`${LETTER}$`, "u").test(words) ? `(?!${LETTER})` : "";
  return new RegExp(before + escaped + after, "iu");
}

const fits = (text, terms) => terms.every(({ pattern, wanted }) => pattern.test(text) === wanted);
