"use strict";
// A slider shows one picture left of its line and another one right of it. It is a range input that
// lies over the pictures, so that mouse, finger and keys move it without code.
for (const figure of document.querySelectorAll(".compare")) {
  const stage = figure.querySelector(".stage");
  const line = figure.querySelector("input");
  const pair = figure.querySelector("select");
  const show = () => {
    const [left, right] = pair.value.split(" ");
    figure.dataset.left = left;
    figure.dataset.right = right;
    stage.querySelector(".tag.left").textContent = left;
    stage.querySelector(".tag.right").textContent = right;
    stage.style.setProperty("--at", line.value + "%");
    line.setAttribute("aria-valuetext", `${line.value} % ${left}, the rest ${right}`);
  };
  line.addEventListener("input", show);
  pair.addEventListener("change", show);
  show();
}
