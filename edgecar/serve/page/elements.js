// Elements and their text. Camera names and errors come from outside: they reach the page only as
// text and attributes, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

// Attributes are set as given; `onclick` and the like become listeners.
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// Unchanged text is not written again: screen readers would repeat it, and layout would run again.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function attribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// Show a line only while it has text.
export function line(element, text) {
  element.hidden = !text;
  say(element, text || "");
}

// Set the options of a select. A choice is kept if it is still offered; `first` is the default.
export function choices(select, names, first = "") {
  if ([...select.options].map((option) => option.value).join("\n") === names.join("\n")) return;
  const chosen = select.value;
  const option = (name) =>
    make("option", { value: name, selected: name === first }, name === "pass" ? "pass: as it is" : name);
  select.replaceChildren(...names.map(option));
  if (names.includes(chosen)) select.value = chosen;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
