// A button on every block of code that copies it. Outputs are not code, and a browser that
// keeps its clipboard to itself gets no buttons.
function addButton(block) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  const say = (word) => { button.textContent = word; };
  say("Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("pre").textContent.trimEnd());
    say("Copied");
    setTimeout(say, 2000, "Copy");
  });
  block.append(button);
}

if (navigator.clipboard) {
  document.querySelectorAll(".bd-article div.highlight").forEach((block) => {
    if (!block.closest(".output, .sig")) addButton(block);
  });
}
