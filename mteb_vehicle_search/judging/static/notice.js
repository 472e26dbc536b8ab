// The line that says what went wrong, and the button that mends it.

const RETRY_MS = 2000;

export class Notice {
  constructor(element) {
    Object.assign(this, { element, retry: 0 });
    [this.text, this.button] = element.querySelectorAll("p, button");
  }

  /** Say something, with what the button says and does; `soon`: it is done by itself too, after a while. */
  show(message, label, act, soon) {
    clearTimeout(this.retry);
    this.element.hidden = false;
    // What is written again is read out again.
    if (this.text.textContent !== message) this.text.textContent = message;
    this.button.textContent = label;
    this.button.onclick = act;
    if (soon) this.retry = setTimeout(act, RETRY_MS);
  }

  hide() {
    clearTimeout(this.retry);
    this.element.hidden = true;
    this.text.textContent = "";
  }
}
