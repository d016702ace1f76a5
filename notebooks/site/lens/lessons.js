"use strict";

// "Try this": each button shows one thing. What a lesson does not name is as at the start.
// tests/test_lens_js.py holds what the words say of the recorded models.

// Source i of Full AttnRes, which layer i - 1 wrote, cut from every read of the 16 layers
// and the final one.
function everywhere(source) {
  return Array.from({ length: 17 - source }, (_, i) => [`${source + i},${source}`, 0]);
}

const LESSONS = [
  { name: "Before training", step: 0,
    words: `The queries begin at zero, so every read is the plain mean of its sources, which is
      white, and PreNorm, Block and Full are one and the same function. Move the slider to
      the right and watch the triangle leave white.` },
  { name: "One layer, four letters", selected: "9,0", at: 36,
    words: `MLP 9 takes the embedding at about twice the plain mean for the “s” of “self”,
      and at less than the mean for its “f”. The query is the same for every character, but
      the keys are not. Walk along the word with the arrow keys and watch the row of MLP 9.` },
  { name: "Cut attention 6", edits: everywhere(7),
    words: `After “sel” the model is almost sure of an “f”; without attention 6 it gives the
      “f” next to no chance. At this place no other attention is missed like that: undo the
      edits, and click A4 or A8 at the edge of the triangle instead.` },
  { name: "Large weight, small loss", edits: [["16,16", 0]], selected: "16,16",
    words: `No source has more weight in the final read than MLP 15, averaged over this text.
      Yet without it the loss of the whole text hardly rises.` },
  { name: "Small weight, large loss", edits: everywhere(2),
    words: `Most reads take MLP 1 by about the plain mean or by less. Yet without it the loss
      of the text is about four times as large, because the later layers were trained with
      what MLP 1 writes. A weight is not an importance.` },
  { name: "Five sources, not 17", residual: "block",
    words: `Block AttnRes sums four layers before they are read, so that no read has more than
      five sources. Full and Block were trained once each, and their validation losses
      differ by less than 0.01: one run of each cannot tell which is better.` },
];
