// What a person can do with a camera: choose its network, start, stop, remove it.

import { ask, cameraPath, reason } from "./api.js";
import { attribute, choices, line, make, say } from "./elements.js";

export class Controls {
  // `page.acted(name, camera)` takes what the server answered: the camera's new status, or null.
  constructor(name, page) {
    this.name = name;
    this.page = page;
    this.camera = null;
    this.network = make("select", {
      "aria-label": `Network of ${name}`, onchange: () => this.choose(this.network.value),
    });
    this.toggle = make("button", { type: "button", class: "toggle", onclick: () => this.startOrStop() });
    this.askRemove = make("button", { type: "button", class: "remove", onclick: () => this.confirm(true) }, "Remove");
    attribute(this.askRemove, "aria-label", `Remove ${name}`);
    this.usual = make("div", { class: "buttons" }, this.network, this.toggle, this.askRemove);
    this.keep = make("button", { type: "button", class: "keep", onclick: () => this.confirm(false) }, "Keep");
    this.yes = make("button", { type: "button", class: "danger", onclick: () => this.remove() }, "Remove");
    // "Keep" lies where "Remove" was: a double click removes nothing.
    const question = make("span", { class: "question" }, `Remove ${name}?`);
    this.sure = make("div", { class: "buttons", role: "group", hidden: true }, question, this.yes, this.keep);
    attribute(this.sure, "aria-label", `Remove ${name}?`);
    this.error = make("p", { class: "alert", role: "alert", hidden: true });
    this.element = make("div", { class: "controls" }, this.usual, this.sure, this.error);
    this.sure.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // it answers the question; the picture stays large
      this.confirm(false);
    });
  }

  get stopped() {
    return ["stopped", "ended"].includes(this.camera.state);
  }

  update(camera, networks) {
    this.camera = camera;
    choices(this.network, [...new Set([...networks, camera.network, "pass"])]);
    if (!this.busy && this.network.value !== camera.network) this.network.value = camera.network;
    say(this.toggle, this.stopped ? "Start" : "Stop");
    attribute(this.toggle, "aria-label", `${this.toggle.textContent} ${this.name}`);
  }

  confirm(open) {
    this.usual.hidden = open;
    this.sure.hidden = !open;
    (open ? this.keep : this.askRemove).focus();
  }

  choose(network) {
    return this.act("PATCH", "", { network });
  }

  startOrStop() {
    return this.act("POST", this.stopped ? "/start" : "/stop");
  }

  remove() {
    return this.act("DELETE", "");
  }

  async act(method, rest, body) {
    if (this.busy) return;
    this.setBusy(true);
    line(this.error, "");
    try {
      const camera = await ask(method, cameraPath(this.name, rest), body);
      this.setBusy(false);
      this.page.acted(this.name, camera);
    } catch (error) {
      this.setBusy(false);
      line(this.error, reason(error));
      this.network.value = this.camera.network; // what is so, not what was wished
    }
  }

  // Not `disabled`, which would take the focus away from who works with keys.
  setBusy(busy) {
    this.busy = busy;
    attribute(this.element, "aria-busy", busy);
  }
}
