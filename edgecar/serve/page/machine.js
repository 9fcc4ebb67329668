// The head of the page: what the whole machine does.

import { make, say } from "./elements.js";

const TERMS = ["cameras", "fps", "restoring", "CPU", "memory", "up"];
const TITLES = {
  fps: "frames a second that are done, of all cameras",
  restoring: "share of the restoring thread's time that is spent: 100 % is full",
  CPU: "share of the processors' time",
};

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / (24 * 60))} days`;
}

const percent = (share) => `${Math.round(100 * share)} %`;

export class Machine {
  constructor(list, version) {
    this.version = version;
    this.values = {};
    for (const term of TERMS) {
      this.values[term] = make("dd", {}, "–");
      this.values[term].dataset.of = term;
      list.append(make("div", { title: TITLES[term] ?? "" }, make("dt", {}, term), this.values[term]));
    }
  }

  show(status, cameras) {
    const running = cameras.filter((camera) => camera.state === "running");
    const fps = running.reduce((sum, camera) => sum + camera.process_fps, 0);
    say(this.version, status.version);
    say(this.values.cameras, `${running.length} of ${cameras.length} running`);
    say(this.values.fps, fps.toFixed(1));
    say(this.values.restoring, percent(status.load));
    this.values.restoring.classList.toggle("full", status.load >= 0.95);
    say(this.values.CPU, percent(status.cpu_share));
    say(this.values.memory, `${Math.round(status.memory_mib)} MiB`);
    say(this.values.up, duration(status.uptime_seconds));
    document.title = running.length === cameras.length ? "edgecar" : `(${cameras.length - running.length}) edgecar`;
  }
}
