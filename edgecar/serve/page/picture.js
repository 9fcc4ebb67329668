// The live picture of a camera, and whose picture is fetched next. Before is left of a line, after
// right of it; the line is dragged with mouse or finger, or moved with the keys. A double click on a
// large picture shows its pixels: what compression does is small.

import { askForPicture, cameraPath } from "./api.js";
import { attribute, make, say } from "./elements.js";

const IN_FLIGHT = 4;
const SLOW_MS = 300; // a camera with less than three frames a second makes its request wait
const PATIENCE_MS = 8000; // the server answers within about a second
const LONGEST_PAUSE_MS = 10000;
const GRID = { gapMs: 80, width: 960 }; // 12 pictures a second: coding them costs the server time
const LARGE = { gapMs: 33, width: 1920 };
const STEP_PX = 64; // few different widths, however wide the window is
const DRAG_PX = 5; // a shorter move is a click
const ZOOM = 4;
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

export class Picture {
  constructor(name, onClick) {
    this.name = name;
    this.onClick = onClick;
    this.at = 50; // percent of the width
    this.zoom = 1;
    this.centre = { x: 0.5, y: 0.5 }; // centre of the part that is shown, as shares of the picture
    this.large = this.running = this.onScreen = false;
    this.sequence = null;
    this.pair = null;
    this.nativeWidth = LARGE.width;
    this.canvas = make("canvas", { class: "picture", width: 320, height: 180, role: "img" });
    attribute(this.canvas, "aria-label", `${name}: before and after`);
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
  }

  listenToPointer() {
    let from = null;
    let dragged = false;
    let onLarge = [false, false]; // at each of the last two clicks
    const follow = (event) => {
      const box = this.frame.getBoundingClientRect();
      this.moveTo((100 * (event.clientX - box.left)) / box.width);
    };
    this.frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = event.clientX;
      dragged = false;
      onLarge = [onLarge[1], this.large];
      this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener("pointermove", (event) => {
      if (from === null) return;
      dragged ||= Math.abs(event.clientX - from) > DRAG_PX;
      if (dragged) follow(event);
    });
    this.frame.addEventListener("pointerup", (event) => {
      if (from !== null && !dragged && this.large) follow(event);
      else if (from !== null && !dragged) this.onClick();
      from = null;
    });
    this.frame.addEventListener("pointercancel", () => {
      from = null; // a finger scrolls the page
    });
    this.frame.addEventListener("dblclick", (event) => {
      if (!onLarge[0] || !this.large) return; // the first of the two made it large
      const box = this.frame.getBoundingClientRect();
      this.zoomAt((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
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
    if (event.key === "Home") this.moveTo(0);
    else if (event.key === "End") this.moveTo(100);
    else if (step) this.moveTo(this.at + step);
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

  // The next three are what `Turns` asks.
  wanted() {
    return this.running && this.onScreen;
  }

  gapMs() {
    return (this.large ? LARGE : GRID).gapMs;
  }

  width() {
    const seen = this.canvas.clientWidth * Math.min(2, devicePixelRatio);
    if (this.zoom > 1) return Math.min(LARGE.width, this.nativeWidth);
    const most = Math.min((this.large ? LARGE : GRID).width, this.nativeWidth);
    return Math.max(16, Math.min(most, Math.ceil(seen / STEP_PX) * STEP_PX));
  }

  async fetchNext(signal) {
    const newer = this.sequence === null ? "" : `&newer_than=${this.sequence}`;
    const path = `/frame.jpg?view=pair${newer}&width=${this.width()}`;
    const got = await askForPicture(cameraPath(this.name, path), signal);
    if (!got) return;
    const pair = await createImageBitmap(got.blob);
    this.pair?.close();
    this.pair = pair;
    this.sequence = got.sequence;
    this.element.classList.remove("blank");
    if (this.running) this.veil.hidden = true;
    this.draw();
  }

  draw() {
    if (!this.pair) return;
    const width = Math.floor(this.pair.width / 2);
    const height = this.pair.height;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const split = Math.round((width * this.at) / 100);
    const rest = width - split;
    // The part of the picture that is shown.
    const part = 1 / this.zoom;
    const left = Math.min(1 - part, Math.max(0, this.centre.x - part / 2)) * width;
    const top = Math.min(1 - part, Math.max(0, this.centre.y - part / 2)) * height;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = this.zoom === 1;
    const paint = (from, at, size) =>
      size > 0 && context.drawImage(this.pair, from, top, size * part, height * part, at, 0, size, height);
    paint(left, 0, split);
    paint(width + left + split * part, split, rest);
  }
}

// Whose picture is fetched next. Browsers open six connections to a host over HTTP/1.1; pictures take
// four of them, so that a person's actions never wait behind a picture. A feed has `wanted()`,
// `gapMs()` (the shortest time between two of its pictures) and `fetchNext(signal)`.
export class Turns {
  constructor() {
    this.turns = new Map();
    this.paused = false;
    this.timer = 0;
  }

  add(feed) {
    this.turns.set(feed, { feed, asked: 0, due: 0, failures: 0, slow: false, controller: null });
    this.review();
  }

  remove(feed) {
    this.turns.get(feed)?.controller?.abort();
    this.turns.delete(feed);
  }

  isWanted(turn) {
    return !this.paused && !document.hidden && turn.feed.wanted();
  }

  // Something changed: cancel what nobody looks at any more, and go on with the rest.
  review() {
    for (const turn of this.turns.values()) {
      if (turn.controller && !this.isWanted(turn)) turn.controller.abort();
    }
    this.pump();
  }

  pump() {
    clearTimeout(this.timer);
    const wanted = [...this.turns.values()].filter((turn) => this.isWanted(turn));
    const waiting = wanted.filter((turn) => !turn.controller).sort((a, b) => a.asked - b.asked);
    const anyFast = wanted.some((turn) => !turn.slow);
    const now = performance.now();
    let next = Infinity;
    for (const turn of waiting) {
      const busy = [...this.turns.values()].filter((other) => other.controller);
      if (busy.length >= IN_FLIGHT) return; // the next one that ends pumps again
      const slow = busy.filter((other) => other.slow).length;
      if (turn.due > now) next = Math.min(next, turn.due);
      else if (turn.slow && anyFast && slow >= IN_FLIGHT / 2) continue; // leave room for the others
      else this.take(turn, now);
    }
    if (next < Infinity) this.timer = setTimeout(() => this.pump(), next - now);
  }

  async take(turn, now) {
    const controller = new AbortController();
    const patience = setTimeout(() => controller.abort(), PATIENCE_MS);
    turn.controller = controller;
    turn.asked = now;
    try {
      await turn.feed.fetchNext(controller.signal);
      turn.failures = 0;
      turn.slow = performance.now() - now > SLOW_MS;
      turn.due = now + turn.feed.gapMs();
    } catch {
      // The next poll of the cameras shows what is wrong; here it is enough to slow down.
      const pause = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** turn.failures);
      turn.failures += this.isWanted(turn) ? 1 : 0;
      turn.due = this.isWanted(turn) ? performance.now() + pause : 0;
    }
    clearTimeout(patience);
    turn.controller = null;
    this.pump();
  }
}
