// Seconds that an image is looked at: by a clock that does not jump, and not while the page or the image is hidden.

export class Stopwatch {
  /** @param {() => boolean} covered tells whether something lies over the image */
  constructor(covered) {
    Object.assign(this, { covered, running: false, since: null, before: 0 });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.goOn()));
  }

  start() {
    this.running = true;
    this.before = 0;
    this.since = null;
    this.goOn();
  }

  pause() {
    if (this.since !== null) this.before += performance.now() - this.since;
    this.since = null;
  }

  goOn() {
    if (this.running && this.since === null && !document.hidden && !this.covered()) this.since = performance.now();
  }

  /** End; returns the seconds since `start`, less the pauses, in thousandths. */
  stop() {
    this.pause();
    this.running = false;
    return Math.round(this.before) / 1000;
  }
}
