"use strict";

// "Try this": each button shows one thing. What a lesson does not name is as at the start.
const LESSONS = [
  { name: "Where it begins", step: 0,
    words: "The queries start at zero, so every read is the plain mean of its sources, which is white. PreNorm, Block and Full are one function at this moment." },
];
