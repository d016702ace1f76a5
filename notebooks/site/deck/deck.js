// Slides are as large as the window, in type that grows with it. A slide that is too full
// gets smaller type; one that is still too full then, or on a telephone, scrolls.
const SMALLEST = 0.72;

function fit(slide) {
  slide.style.fontSize = "";
  slide.removeAttribute("tabindex");
  const overflows = () => slide.scrollHeight > slide.clientHeight + 1
    || slide.scrollWidth > slide.clientWidth + 1;
  const inPixels = (element) => parseFloat(getComputedStyle(element).fontSize);
  const smallest = window.innerWidth < 700 ? 1 : SMALLEST;
  let size = inPixels(slide) / inPixels(slide.parentNode);
  while (overflows() && size > smallest) {
    size = Math.max(size - 0.04, smallest);
    slide.style.fontSize = `${size}em`;
  }
  if (overflows()) slide.tabIndex = 0;  // so that the keyboard can scroll it
  for (const pre of slide.querySelectorAll("pre, .figure, mjx-container[display=true]")) {
    pre.toggleAttribute("tabindex", false);
    if (pre.scrollWidth > pre.clientWidth + 1) pre.tabIndex = 0;
  }
}

// The depth lens wants 980 pixels by 680; above and below it stand a heading and a link.
function scaleLens() {
  const fitting = Math.min(window.innerWidth * 0.93 / 980, (window.innerHeight - 120) / 680);
  const scale = window.innerWidth < 700 ? 1 : fitting;
  document.documentElement.style.setProperty("--lens-scale", scale);
}

const where = document.createElement("div");
where.className = "where";
document.querySelector("main").append(where);

function show() {
  const slide = Reveal.getCurrentSlide();
  if (!slide) return;
  fit(slide);
  scaleLens();
  const title = slide.querySelector("h1, h2") ? null : slide.parentNode.querySelector("h1, h2");
  where.textContent = title ? title.textContent : "";
}

const ready = Reveal.initialize({
  width: "100%",
  height: "100%",
  margin: 0,
  center: false,
  hash: true,
  slideNumber: "c/t",
  transition: "none",
  scrollActivationWidth: null,
  plugins: [RevealNotes],  // key S
  pdfSeparateFragments: false,
  pdfMaxPagesPerSlide: 1,
});
Reveal.on("pdf-ready", () => document.querySelectorAll(".pdf-page > section").forEach(fit));
Reveal.on("slidechanged", show);
Reveal.on("resize", show);
document.addEventListener("toggle", show, true);  // the code of a figure, unfolded
window.addEventListener("load", async () => {
  await Promise.all([ready, MathJax.startup.promise]);
  show();
  document.body.dataset.ready = "yes";
});
