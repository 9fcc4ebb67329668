// The last minutes of one figure as a small plot: the value now, the line, and its range.

import { attribute, make, makeSvg, say } from "./elements.js";

const HEIGHT = 24;
const ONE = (value) => value.toFixed(1);
const WHOLE = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));
const PERCENT = (value) => (100 * value).toFixed(0);

// `keys`: the last one is the line; one before it is drawn faintly behind. `low`: lower end of the plot.
export const FIGURES = [
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
  const points = values.map((value, index) => {
    if (!known(value)) return "";
    const x = index * step;
    const y = (HEIGHT - 1 - ((HEIGHT - 2) * (value - low)) / (high - low || 1)).toFixed(2);
    if (known(values[index - 1])) return `L${x.toFixed(2)} ${y}`;
    return known(values[index + 1]) ? `M${x.toFixed(2)} ${y}` : `M${(x - 1).toFixed(2)} ${y}h1`;
  });
  return points.join("");
}

function span(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

export class Plot {
  constructor(figure) {
    this.figure = figure;
    this.now = make("b");
    this.more = make("span");
    this.range = make("span", { class: "range" });
    this.paths = figure.keys.map((_, index) =>
      makeSvg("path", { class: index === figure.keys.length - 1 ? "curve" : "curve faint" }),
    );
    const box = { viewBox: `0 0 100 ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
    this.svg = makeSvg("svg", box, ...this.paths);
    const title = make("span", { class: "title" }, figure.title);
    const value = make("span", { class: "value" }, this.now, this.more);
    const named = { class: "plot", title: figure.what, "data-of": figure.keys.at(-1) };
    this.element = make("div", named, title, value, this.svg, this.range);
    this.last = null; // latest value of the history, for figures that the status lacks
    this.showHistory({});
  }

  update(camera) {
    const [value, more] = camera.state === "running" ? this.figure.now(camera) : [null, ""];
    const shown = value === undefined ? this.last : value;
    say(this.now, known(shown) ? this.figure.form(shown) : "–");
    say(this.more, known(shown) ? more : "");
  }

  showHistory(history) {
    const { form, keys, title, low: lowest } = this.figure;
    const series = keys.map((key) => history[key] ?? []);
    const all = series.flat().filter(known);
    const own = series.at(-1).filter(known);
    this.last = series.at(-1).at(-1) ?? null;
    const [least, most] = [lowest ?? Math.min(...all), Math.max(...all)];
    const flat = least === most ? 1 : 0; // a constant runs through the middle, zero along the lower end
    const low = lowest ?? least - flat;
    this.paths.forEach((path, index) => attribute(path, "d", pathOf(series[index], low, most + flat)));
    const range = own.length ? `${form(Math.min(...own))} – ${form(Math.max(...own))}` : "no data";
    say(this.range, range);
    const minutes = span((history.step_seconds ?? 0) * series.at(-1).length);
    attribute(this.svg, "aria-label", `${title}: ${range} in the last ${minutes}`);
  }
}
