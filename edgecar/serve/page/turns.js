// Whose picture is fetched next. Browsers open six connections to a host over HTTP/1.1; pictures
// take four of them, so that what a person does never waits behind a picture.

const IN_FLIGHT = 4;
const SLOW_MS = 300; // a camera of less than three frames a second makes its request wait
const PATIENCE_MS = 8000; // the server answers within about a second
const LONGEST_PAUSE_MS = 10000;

// A feed has `wanted()`, `gapMs()` (the least time between two of its pictures) and
// `fetchNext(signal)`.
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

  // Something changed: give up what nobody looks at any more, and go on with the rest.
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
      // The next poll of the cameras says what is wrong; here it is enough not to hammer.
      const pause = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** turn.failures);
      turn.failures += this.isWanted(turn) ? 1 : 0;
      turn.due = this.isWanted(turn) ? performance.now() + pause : 0;
    }
    clearTimeout(patience);
    turn.controller = null;
    this.pump();
  }
}
