// The session as this tab knows it: the same order, "next" and "undo" as session.py, so that nothing waits for the server.

export class Session {
  constructor({ name, units, items }) {
    Object.assign(this, { name, units, items });
    this.byKey = new Map(items.map((item) => [item.key, item]));
  }

  /** The number of the item that comes next: the first without a grade; the number of items if all have one. */
  get position() {
    const at = this.items.findIndex((item) => item.grade === null);
    return at < 0 ? this.items.length : at;
  }

  get next() {
    return this.items[this.position] ?? null;
  }

  /** The item whose grade is taken back next. */
  get before() {
    return this.items[this.position - 1] ?? null;
  }

  /** The next items after the one that is shown. */
  ahead(count) {
    return this.items.slice(this.position).filter((item) => item.grade === null).slice(1, count + 1);
  }

  unit(item) {
    return this.units[item.unit];
  }

  /** Which image of its caption an item is, from 1, and of how many. */
  place(item) {
    const own = this.items.filter((one) => one.unit === item.unit);
    return [own.indexOf(item) + 1, own.length];
  }
}
