// One camera: its picture, what it is doing, and what it writes.

import { Controls } from "./controls.js";
import { attribute, icon, line, make, say } from "./elements.js";
import { Picture } from "./picture.js";
import { Plots } from "./plots.js";

const ENLARGE = "M9 2h5v5M14 2L9.5 6.5M7 14H2V9M2 14l4.5-4.5";
const BACK = "M7 3L2 8l5 5M2 8h12";

function dot(state) {
  const word = make("span");
  const element = make("span", { class: "state" }, make("span", { class: "dot", "aria-hidden": "true" }), word);
  element.dataset.state = state;
  return { element, word };
}

function showState({ element, word }, state) {
  element.dataset.state = state;
  say(word, state);
}

// Counters that are nothing are not worth a place; what is lost always is.
function counted(camera) {
  const { read, dropped, passed, corrupt } = camera.frames;
  const why = Object.entries(camera.passed_because ?? {}).map(([reason, count]) => `${reason.replaceAll("_", " ")} ${count}`);
  return [
    `${read} read`,
    `${dropped} dropped`,
    passed && `${passed} passed${why.length ? ` (${why.join(", ")})` : ""}`,
    camera.skipped_fps >= 0.05 && `${camera.skipped_fps.toFixed(1)} fps skipped`,
    corrupt && `${corrupt} corrupt`,
    camera.reconnects && `${camera.reconnects} reconnects`,
    camera.restarts && `${camera.restarts} restarts`,
  ].filter(Boolean).join(" · ");
}

function atWork(camera) {
  if (camera.state !== "running") return "–";
  return [camera.running === "pass" ? "pass: the picture as it is" : camera.running, camera.engine]
    .filter(Boolean).join(" · ");
}

function shedLine(camera) {
  if (!camera.shed) return "";
  if (camera.running === "pass") return `overload: passing pictures as they are instead of running ${camera.network}`;
  return `overload: running ${camera.running} instead of ${camera.network}`;
}

function outputRow(output) {
  const state = dot(output.state);
  showState(state, output.state);
  const counts = `${output.frames} frames${output.dropped ? `, ${output.dropped} dropped` : ""}`;
  const row = make("li", {}, state.element, make("b", {}, output.kind), make("span", {}, counts));
  row.append(make("span", { class: "target", title: output.target }, output.target));
  if (output.error) row.append(make("span", { class: "error" }, output.error));
  return row;
}

export class CameraCard {
  constructor(name, page) {
    this.name = name;
    this.onScreen = false;
    this.picture = new Picture(name, () => page.enlarge(name));
    this.plots = new Plots();
    this.controls = new Controls(name, page);
    this.state = dot("connecting");
    this.zoom = make("button", { type: "button", class: "zoom", onclick: () => page.toggle(name) });
    this.shed = make("p", { class: "shed", role: "status", hidden: true });
    this.error = make("p", { class: "error", role: "status", hidden: true });
    this.facts = {};
    const list = make("dl", { class: "facts" });
    for (const term of ["at work", "stream", "frames", "outputs"]) {
      this.facts[term] = term === "outputs" ? make("ul") : make("span", { class: term === "frames" ? "" : "one-line" });
      list.append(make("dt", {}, term), make("dd", {}, this.facts[term]));
    }
    const title = make("h2", { title: name, onclick: () => page.enlarge(name) }, name);
    const head = make("div", { class: "head" }, title, this.state.element, this.zoom);
    const side = make("div", { class: "side" }, this.shed, this.error, list, this.controls.element);
    this.element = make("article", { class: "camera", "aria-label": name }, head, this.picture.element,
      this.plots.element, side);
    this.element.dataset.name = name;
    this.showLarge(false);
  }

  showLarge(large) {
    this.large = large;
    this.picture.setLarge(large);
    this.element.classList.toggle("large", large);
    this.zoom.replaceChildren(icon(large ? BACK : ENLARGE), ...(large ? ["All cameras"] : []));
    attribute(this.zoom, "aria-label", large ? "Back to all cameras" : `Enlarge ${this.name}`);
  }

  update(camera, networks) {
    this.element.dataset.state = camera.state;
    showState(this.state, camera.state);
    line(this.shed, shedLine(camera));
    line(this.error, camera.error);
    this.picture.update(camera);
    this.plots.update(camera);
    this.controls.update(camera, networks);
    const size = camera.width ? `${camera.width}×${camera.height}` : "";
    say(this.facts["at work"], atWork(camera));
    say(this.facts.stream, [camera.codec, size, camera.source].filter(Boolean).join(" · "));
    attribute(this.facts.stream, "title", camera.source);
    say(this.facts.frames, counted(camera));
    this.showOutputs(camera.outputs ?? []);
  }

  showOutputs(outputs) {
    const told = JSON.stringify(outputs);
    if (told === this.told) return;
    this.told = told;
    this.facts.outputs.replaceChildren(
      ...(outputs.length ? outputs.map(outputRow) : [make("li", { class: "none" }, "none")]),
    );
  }
}
