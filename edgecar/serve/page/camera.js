// One camera: its picture, its figures, its plots, and what a person can do with it.

import { ask, cameraPath, reason } from "./api.js";
import { attribute, choices, line, make, say } from "./elements.js";
import { Picture } from "./picture.js";
import { FIGURES, Plot } from "./plot.js";

// The state in colour and in words.
function stateOf(state) {
  return make("span", { class: "state", "data-state": state }, make("span", { class: "dot", "aria-hidden": "true" }),
    make("span", {}, state));
}

// Counters of zero are left out, except that of dropped frames.
function counted(camera) {
  const { read, dropped, passed, corrupt } = camera.frames;
  const why = Object.entries(camera.passed_because).map(([reason, count]) => `${reason.replaceAll("_", " ")} ${count}`);
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
  const counts = `${output.frames} frames${output.dropped ? `, ${output.dropped} dropped` : ""}`;
  const row = make("li", {}, stateOf(output.state), make("b", {}, output.kind), make("span", {}, counts),
    make("span", { class: "target", title: output.target }, output.target));
  if (output.error) row.append(make("span", { class: "error" }, output.error));
  return row;
}

// `page.acted(name, camera)` takes the server's answer to an action: the camera's new status, or null.
export class CameraCard {
  constructor(name, page) {
    this.name = name;
    this.page = page;
    this.onScreen = false;
    this.picture = new Picture(name, () => page.enlarge(name));
    this.plots = FIGURES.map((figure) => new Plot(figure));
    this.state = stateOf("connecting");
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
    const head = make("div", { class: "head" }, title, this.state, this.zoom);
    const plots = make("div", { class: "plots" }, ...this.plots.map((plot) => plot.element));
    const side = make("div", { class: "side" }, this.shed, this.error, list, this.makeControls());
    this.element = make("article", { class: "camera", "aria-label": name, "data-name": name }, head,
      this.picture.element, plots, side);
    this.showLarge(false);
  }

  makeControls() {
    const { name } = this;
    const button = (kind, label, text, onclick) =>
      make("button", { type: "button", class: kind, "aria-label": label, onclick }, text);
    this.network = make("select", {
      "aria-label": `Network of ${name}`, onchange: () => this.act("PATCH", "", { network: this.network.value }),
    });
    this.toggle = button("toggle", "", "", () => this.act("POST", this.stopped ? "/start" : "/stop"));
    this.remove = button("remove", `Remove ${name}`, "Remove", () => this.confirm(true));
    this.usual = make("div", { class: "buttons" }, this.network, this.toggle, this.remove);
    const yes = button("danger", "Remove", "Remove", () => this.act("DELETE", ""));
    // "Keep" is where "Remove" was, so that a double click removes nothing.
    this.keep = button("keep", "Keep", "Keep", () => this.confirm(false));
    const question = make("span", { class: "question" }, `Remove ${name}?`);
    const asked = { class: "buttons", role: "group", hidden: true, "aria-label": `Remove ${name}?` };
    this.sure = make("div", asked, question, yes, this.keep);
    this.sure.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // it answers the question only; the picture stays large
      this.confirm(false);
    });
    this.refusal = make("p", { class: "alert", role: "alert", hidden: true });
    this.controls = make("div", { class: "controls" }, this.usual, this.sure, this.refusal);
    return this.controls;
  }

  showLarge(large) {
    this.large = large;
    this.picture.setLarge(large);
    this.element.classList.toggle("large", large);
    say(this.zoom, large ? "← All cameras" : "⤢");
    attribute(this.zoom, "aria-label", large ? "Back to all cameras" : `Enlarge ${this.name}`);
  }

  get stopped() {
    return ["stopped", "ended"].includes(this.camera.state);
  }

  update(camera, networks) {
    this.camera = camera;
    attribute(this.element, "data-state", camera.state);
    attribute(this.state, "data-state", camera.state);
    say(this.state.lastChild, camera.state);
    line(this.shed, shedLine(camera));
    line(this.error, camera.error);
    this.picture.update(camera);
    for (const plot of this.plots) plot.update(camera);
    const size = camera.width ? `${camera.width}×${camera.height}` : "";
    say(this.facts["at work"], atWork(camera));
    say(this.facts.stream, [camera.codec, size, camera.source].filter(Boolean).join(" · "));
    attribute(this.facts.stream, "title", camera.source);
    say(this.facts.frames, counted(camera));
    const told = JSON.stringify(camera.outputs);
    if (told !== this.told) {
      const rows = camera.outputs.map(outputRow);
      this.facts.outputs.replaceChildren(...(rows.length ? rows : [make("li", { class: "none" }, "none")]));
      this.told = told;
    }
    choices(this.network, [...new Set([...networks, camera.network, "pass"])]);
    if (!this.busy && this.network.value !== camera.network) this.network.value = camera.network;
    say(this.toggle, this.stopped ? "Start" : "Stop");
    attribute(this.toggle, "aria-label", `${this.toggle.textContent} ${this.name}`);
  }

  confirm(open) {
    this.usual.hidden = open;
    this.sure.hidden = !open;
    (open ? this.keep : this.remove).focus();
  }

  async act(method, rest, body) {
    if (this.busy) return;
    this.setBusy(true);
    line(this.refusal, "");
    try {
      const camera = await ask(method, cameraPath(this.name, rest), body);
      this.setBusy(false);
      this.page.acted(this.name, camera);
    } catch (error) {
      this.setBusy(false);
      line(this.refusal, reason(error));
      this.network.value = this.camera.network; // the network at work, not the one asked for
    }
  }

  // `disabled` would take the focus away from a person who uses the keyboard.
  setBusy(busy) {
    this.busy = busy;
    attribute(this.controls, "aria-busy", busy);
  }
}
