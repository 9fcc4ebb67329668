// The live picture of a camera. Before is left of a line, after right of it; the line is dragged with
// mouse or finger, or moved with the keys. A double click on a large picture shows its pixels: what
// compression does is small.

import { askForPicture, cameraPath } from "./api.js";
import { attribute, make, pause, say } from "./elements.js";

const SLOW_MS = 300; // a camera with less than three frames a second makes its request wait
const LONGEST_PAUSE_MS = 4000;
const LOOK_MS = 100; // between two looks whether anybody sees the picture
const GRID = { gapMs: 80, width: 960 }; // 12 pictures a second: coding them costs the server time
const LARGE = { gapMs: 33, width: 1920 };
const STEP_PX = 64; // few different widths, however wide the window is
const DRAG_PX = 5; // a shorter move is a click
const ZOOM = 4;
const KEYS = {
  ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100,
};

// Requests that may run at a time; who waited longest is next.
class Slots {
  constructor(free) {
    this.free = free;
    this.waiting = [];
  }

  async take() {
    if (this.free > 0) this.free -= 1;
    else await new Promise((go) => this.waiting.push(go));
  }

  give() {
    if (this.waiting.length) this.waiting.shift()();
    else this.free += 1;
  }
}

// Browsers open six connections to a host over HTTP/1.1; pictures take four of them, so that a person's
// actions never wait behind a picture, and slow cameras two, so that the others need not wait for them.
const slots = new Slots(4);
const slowSlots = new Slots(2);

export class Picture {
  static paused = false; // while the server does not answer

  constructor(name, onClick) {
    this.name = name;
    this.onClick = onClick;
    this.at = 50; // percent of the width
    this.zoom = 1;
    this.centre = { x: 0.5, y: 0.5 }; // centre of the part that is shown, as shares of the picture
    this.large = this.running = this.onScreen = this.removed = false;
    this.sequence = null;
    this.pair = null;
    this.nativeWidth = LARGE.width;
    this.canvas = make("canvas", {
      class: "picture", width: 320, height: 180, role: "img", "aria-label": `${name}: before and after`,
    });
    this.slider = make("div", {
      class: "divider", role: "slider", tabindex: 0, "aria-label": `${name}: line between before and after`,
      "aria-valuemin": 0, "aria-valuemax": 100, onkeydown: (event) => this.onKey(event),
    });
    this.left = make("span", { class: "tag left", "aria-hidden": "true" }, "before");
    this.right = make("span", { class: "tag right", "aria-hidden": "true" }, "after");
    this.veil = make("span", { class: "veil" });
    this.frame = make("div", { class: "frame" }, this.canvas, this.left, this.right, this.slider);
    this.element = make("div", { class: "stage blank" }, this.frame, this.veil);
    this.listenToPointer();
    this.moveTo(50);
    this.run();
  }

  listenToPointer() {
    let from = null;
    let dragged = false;
    let onLarge = [false, false]; // at each of the last two clicks
    const place = (event) => {
      const box = this.frame.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const listen = (kind, heard) => this.frame.addEventListener(kind, heard);
    listen("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = event.clientX;
      dragged = false;
      onLarge = [onLarge[1], this.large];
      this.frame.setPointerCapture(event.pointerId);
    });
    listen("pointermove", (event) => {
      if (from === null) return;
      dragged ||= Math.abs(event.clientX - from) > DRAG_PX;
      if (dragged) this.moveTo(100 * place(event)[0]);
    });
    listen("pointerup", (event) => {
      if (from !== null && !dragged && this.large) this.moveTo(100 * place(event)[0]);
      else if (from !== null && !dragged) this.onClick();
      from = null;
    });
    listen("pointercancel", () => {
      from = null; // a finger scrolls the page
    });
    listen("dblclick", (event) => {
      if (onLarge[0] && this.large) this.zoomAt(...place(event)); // the first of the two made it large
    });
  }

  setLarge(large) {
    this.large = large;
    attribute(this.frame, "title", large ? "double click: pixels, or the whole picture" : "");
    if (!large) this.zoom = 1;
  }

  zoomAt(x, y) {
    this.zoom = this.zoom === 1 ? ZOOM : 1;
    this.centre = { x, y };
    this.draw();
  }

  onKey(event) {
    const step = (KEYS[event.key] ?? 0) * (event.shiftKey ? 10 : 1);
    if (step) this.moveTo(this.at + step);
    else if (event.key === "Enter" && this.large) this.zoomAt(this.at / 100, 0.5);
    else return;
    event.preventDefault();
  }

  moveTo(percent) {
    this.at = Math.min(100, Math.max(0, percent));
    const rounded = Math.round(this.at);
    this.frame.style.setProperty("--at", `${this.at}%`);
    attribute(this.slider, "aria-valuenow", rounded);
    attribute(this.slider, "aria-valuetext", `${rounded} % before, the rest after`);
    this.left.hidden = this.at < 20; // no tag on the other side of the line
    this.right.hidden = this.at > 80;
    this.draw();
  }

  update(camera) {
    this.running = camera.state === "running";
    // A server that was started again counts from the start.
    if (this.sequence !== null && camera.sequence < this.sequence) this.sequence = null;
    if (camera.width && camera.height) {
      this.nativeWidth = camera.width;
      this.element.style.setProperty("--ratio", camera.width / camera.height);
    }
    const unseen = this.pair ? "" : "waiting for the first picture";
    say(this.veil, this.running ? unseen : camera.state);
    this.veil.hidden = !this.veil.textContent;
  }

  wanted() {
    return this.running && this.onScreen && !document.hidden && !Picture.paused;
  }

  // Fetch pictures while somebody sees them.
  async run() {
    let failures = 0;
    let slow = false;
    while (!this.removed) {
      if (!this.wanted()) {
        await pause(LOOK_MS);
        continue;
      }
      const taken = slow ? [slowSlots, slots] : [slots];
      for (const each of taken) await each.take();
      const began = performance.now();
      try {
        if (this.wanted()) await this.fetchNext();
        failures = 0;
      } catch {
        failures += 1; // the next poll of the cameras shows what is wrong; here it is enough to slow down
      }
      for (const each of taken) each.give();
      slow = performance.now() - began > SLOW_MS;
      const due = began + (this.large ? LARGE : GRID).gapMs;
      await pause(failures ? Math.min(LONGEST_PAUSE_MS, 250 * 2 ** failures) : due - performance.now());
    }
  }

  async fetchNext() {
    const newer = this.sequence === null ? "" : `&newer_than=${this.sequence}`;
    const path = `/frame.jpg?view=pair${newer}&width=${this.width()}`;
    const got = await askForPicture(cameraPath(this.name, path));
    if (!got) return;
    const pair = await createImageBitmap(got.blob);
    this.pair?.close();
    this.pair = pair;
    this.sequence = got.sequence;
    this.element.classList.remove("blank");
    if (this.running) this.veil.hidden = true;
    this.draw();
  }

  width() {
    if (this.zoom > 1) return Math.min(LARGE.width, this.nativeWidth);
    const seen = this.canvas.clientWidth * Math.min(2, devicePixelRatio);
    const most = Math.min((this.large ? LARGE : GRID).width, this.nativeWidth);
    return Math.max(16, Math.min(most, Math.ceil(seen / STEP_PX) * STEP_PX));
  }

  draw() {
    if (!this.pair) return;
    const width = Math.floor(this.pair.width / 2);
    const height = this.pair.height;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const split = Math.round((width * this.at) / 100);
    // The part of the picture that is shown.
    const part = 1 / this.zoom;
    const left = Math.min(1 - part, Math.max(0, this.centre.x - part / 2)) * width;
    const top = Math.min(1 - part, Math.max(0, this.centre.y - part / 2)) * height;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = this.zoom === 1;
    const paint = (from, at, size) =>
      size > 0 && context.drawImage(this.pair, from, top, size * part, height * part, at, 0, size, height);
    paint(left, 0, split);
    paint(width + left + split * part, split, width - split);
  }
}
