// Answers that are not known to be on the disk yet: sent one after the other, kept until the server says so.

export class Queue {
  /**
   * @param {string} name of the session: what a reload of this tab finds again
   * @param {(answer: object) => Promise<object>} send
   * @param {{ saved: (reply: object) => void, changed: () => void }} tell
   */
  constructor(name, send, tell) {
    Object.assign(this, { name: `unsaved ${name}`, send, tell, sending: false, trouble: null });
    this.waiting = JSON.parse(sessionStorage.getItem(this.name) ?? "[]");
  }

  get size() {
    return this.waiting.length;
  }

  add(answer) {
    this.waiting.push(answer);
    this.keep();
    this.run();
  }

  keep() {
    sessionStorage.setItem(this.name, JSON.stringify(this.waiting));
    this.tell.changed();
  }

  /** Send what waits, in order; stops at the first trouble, and begins with the same answer when called again. */
  run() {
    if (!this.sending) this.ended = this.sendAll();
    return this.ended;
  }

  /** Give up the answer that the server has no use for. */
  drop() {
    this.trouble = null;
    this.waiting.shift();
    this.keep();
  }

  async sendAll() {
    this.sending = true;
    while (this.waiting.length) {
      let reply;
      try {
        reply = await this.send(this.waiting[0]);
      } catch (trouble) {
        this.trouble = trouble;
        break;
      }
      // Not before: nothing may be answered meanwhile.
      this.trouble = null;
      this.waiting.shift();
      this.tell.saved(reply);
      this.keep();
    }
    if (!this.waiting.length) this.trouble = null;
    this.sending = false;
    this.tell.changed();
  }
}
