// The last minutes of a camera as small plots: what it is now, the line, and how far it went.

import { attribute, make, makeSvg, say } from "./elements.js";

const HEIGHT = 24;
const ONE = (value) => value.toFixed(1);
const WHOLE = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));
const PERCENT = (value) => (100 * value).toFixed(0);

// `keys`: the last one is the line, one before it is drawn faint behind. `low`: where the plot begins.
const PLOTS = [
  { title: "fps", what: "frames a second in and out", keys: ["camera_fps", "process_fps"], low: 0, form: ONE,
    now: (c) => [c.process_fps, ` of ${ONE(c.camera_fps)}`] },
  { title: "age ms", what: "age of a picture when it is done, median and 95th percentile", keys: ["age_ms"], low: 0,
    form: WHOLE, now: (c) => [c.age_ms?.p50, c.age_ms ? ` / ${WHOLE(c.age_ms.p95)}` : ""] },
  { title: "computed %", what: "share of the pixels that is computed, not reused", keys: ["computed_share"], low: 0,
    form: PERCENT, now: (c) => [c.computed_share, ""] },
  { title: "QP", what: "quantiser of the stream", keys: ["qp"], form: ONE, now: (c) => [c.qp, ""] },
  { title: "change dB", what: "PSNR between before and after: low where much was cleaned", keys: ["change_db"],
    form: ONE, now: () => [undefined, ""] },
];

const known = (value) => value !== null && value !== undefined;

// The path of a series; a gap where nothing was measured, a dash where one value stands alone.
export function pathOf(values, low, high) {
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
    this.last = null; // of the history, where the status does not have it
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
    const flat = least === most ? 1 : 0; // what never changed runs through the middle, nothing along the foot
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

export class Plots {
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
