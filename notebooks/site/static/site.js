// A picture whose words would be illegible on a telephone keeps some of its width there, and
// scrolls (site.css). Most figures have 1042 pixels; 1150 squeezed into 350 are too many.
function markWide(picture) {
  if (picture.naturalWidth < 1150) return;
  picture.classList.add("wide");
  picture.style.setProperty("--width", `${picture.naturalWidth}px`);
}
for (const picture of document.querySelectorAll(".cell_output > img")) {
  picture.decode().then(() => markWide(picture));
}

// In a table that is wider than a telephone, a column of sentences is not to be one word wide.
for (const cell of document.querySelectorAll(".bd-article td")) {
  cell.classList.toggle("sentence", cell.textContent.length > 60);
}

// A search result quotes the page's text, in which formulas are TeX. A letter or a name can
// stay, as v_i; what is longer becomes an ellipsis. Folded code is not quoted.
function readable(formula) {
  const tex = formula.textContent.replace(/^\s*\\[([]|\\[)\]]\s*$/g, "");
  return /[\\{}&^]/.test(tex) ? "…" : tex;
}
if (typeof Search !== "undefined") {
  const { htmlToText } = Search;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const folded of page.querySelectorAll("details.hide")) folded.remove();
    for (const formula of page.querySelectorAll(".math")) formula.textContent = readable(formula);
    return htmlToText(page.documentElement.outerHTML, anchor);
  };
}
