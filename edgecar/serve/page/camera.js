// One camera: its picture, its figures, its plots, and what a person can do with it.

import { ask, cameraPath, reason } from "./api.js";
import { attribute, choices, icon, line, make, makeSvg, say } from "./elements.js";
import { Picture } from "./picture.js";

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

// Counters of zero are left out, except that of dropped frames.
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

// What a person can do: choose the network, start, stop and remove the camera.
class Controls {
  // `page.acted(name, camera)` takes the server's answer: the camera's new status, or null.
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
    // "Keep" is where "Remove" was, so that a double click removes nothing.
    const question = make("span", { class: "question" }, `Remove ${name}?`);
    this.sure = make("div", { class: "buttons", role: "group", hidden: true }, question, this.yes, this.keep);
    attribute(this.sure, "aria-label", `Remove ${name}?`);
    this.error = make("p", { class: "alert", role: "alert", hidden: true });
    this.element = make("div", { class: "controls" }, this.usual, this.sure, this.error);
    this.sure.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // it answers the question only; the picture stays large
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
      this.network.value = this.camera.network; // the network at work, not the one asked for
    }
  }

  // `disabled` would take the focus away from a person who uses the keyboard.
  setBusy(busy) {
    this.busy = busy;
    attribute(this.element, "aria-busy", busy);
  }
}

// The last minutes as small plots: the value now, the line, and its range.
const HEIGHT = 24;
const ONE = (value) => value.toFixed(1);
const WHOLE = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));
const PERCENT = (value) => (100 * value).toFixed(0);

// `keys`: the last one is the line; one before it is drawn faintly behind. `low`: lower end of the plot.
const PLOTS = [
  { title: "fps", what: "frames a second in and out", keys: ["camera_fps", "process_fps"], low: 0, form: ONE,
    now: (c) => [c.process_fps, ` of ${ONE(c.camera_fps)}`] },
  { title: "age ms", what: "age of a picture when it is done, median and 95th percentile", keys: ["age_ms"], low: 0,
    form: WHOLE, now: (c) => [c.age_ms?.p50, c.age_ms ? ` / ${WHOLE(c.age_ms.p95)}` : ""] },
  { title: "computed %", what: "share of pixels computed instead of reused", keys: ["computed_share"], low: 0,
    form: PERCENT, now: (c) => [c.computed_share, ""] },
  { title: "QP", what: "quantiser of the stream", keys: ["qp"], form: ONE, now: (c) => [c.qp, ""] },
  { title: "change dB", what: "PSNR between before and after: low where much was cleaned", keys: ["change_db"],
    form: ONE, now: () => [undefined, ""] },
];

const known = (value) => value !== null && value !== undefined;

// Return the path of a series: a gap where nothing was measured, a dash for a value that stands alone.
function pathOf(values, low, high) {
  const step = values.length > 1 ? 100 / (values.length - 1) : 0;
  let path = "";
  let open = false;
  values.forEach((value, index) => {
    if (!known(value)) {
      open = false;
      return;
    }
    const x = index * step;
    const y = (HEIGHT - 1 - ((HEIGHT - 2) * (value - low)) / (high - low || 1)).toFixed(2);
    const alone = !open && !known(values[index + 1]);
    path += open ? `L${x.toFixed(2)} ${y}` : alone ? `M${(x - 1).toFixed(2)} ${y}h1` : `M${x.toFixed(2)} ${y}`;
    open = true;
  });
  return path;
}

function span(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

class Plot {
  constructor(form) {
    this.form = form;
    this.now = make("b");
    this.more = make("span");
    this.range = make("span", { class: "range" });
    this.paths = form.keys.map((key, index) =>
      makeSvg("path", { class: index === form.keys.length - 1 ? "curve" : "curve faint" }),
    );
    const box = { viewBox: `0 0 100 ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
    this.svg = makeSvg("svg", box, ...this.paths);
    const title = make("span", { class: "title" }, form.title);
    const value = make("span", { class: "value" }, this.now, this.more);
    this.element = make("div", { class: "plot", title: form.what }, title, value, this.svg, this.range);
    this.element.dataset.of = form.keys.at(-1);
    this.last = null; // latest value of the history, for figures that the status lacks
    this.update({}, false);
    this.showHistory({});
  }

  update(camera, running) {
    const [value, more] = running ? this.form.now(camera) : [null, ""];
    const shown = value === undefined ? this.last : value;
    say(this.now, known(shown) ? this.form.form(shown) : "–");
    say(this.more, known(shown) ? more : "");
  }

  showHistory(history) {
    const series = this.form.keys.map((key) => history[key] ?? []);
    const all = series.flat().filter(known);
    const own = series.at(-1).filter(known);
    this.last = series.at(-1).at(-1) ?? null;
    const [least, most] = [this.form.low ?? Math.min(...all), Math.max(...all)];
    const flat = least === most ? 1 : 0; // a constant runs through the middle, zero along the lower end
    const low = this.form.low ?? least - flat;
    const high = most + flat;
    this.paths.forEach((path, index) => attribute(path, "d", pathOf(series[index], low, high)));
    const form = this.form.form;
    const range = own.length ? `${form(Math.min(...own))} – ${form(Math.max(...own))}` : "";
    say(this.range, range || "no data");
    const minutes = span((history.step_seconds ?? 0) * series.at(-1).length);
    attribute(this.svg, "aria-label", `${this.form.title}: ${range || "no data"} in the last ${minutes}`);
  }
}

class Plots {
  constructor() {
    this.plots = PLOTS.map((form) => new Plot(form));
    this.element = make("div", { class: "plots" }, ...this.plots.map((plot) => plot.element));
  }

  update(camera) {
    for (const plot of this.plots) plot.update(camera, camera.state === "running");
  }

  showHistory(history) {
    for (const plot of this.plots) plot.showHistory(history);
  }
}
