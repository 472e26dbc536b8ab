// Images, loaded and decoded ahead of their turn; the server keeps nothing in the browser's cache.

const KEPT = 24;

export class Images {
  constructor() {
    this.held = new Map();
  }

  /** The element of an image, with `ready`: a promise that it can be shown, true, or cannot be, false. */
  get(address, alt) {
    let image = this.held.get(address);
    if (!image) {
      image = new Image();
      image.alt = alt;
      image.draggable = false;
      image.src = address;
      image.shown = null;
      image.ready = image.decode().then(() => true, () => false);
      image.ready.then((can) => {
        image.shown = can;
        // To be asked for again, should the server be back.
        if (!can) this.held.delete(address);
      });
    }
    this.held.delete(address);
    this.held.set(address, image);
    if (this.held.size > KEPT) this.held.delete(this.held.keys().next().value);
    return image;
  }
}

/** Lay an image out in its stage: as large as fits, or (zoomed) each stored pixel as a square of whole device pixels. */
export function fit(image, stage, zoomed) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const room = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const dense = devicePixelRatio || 1;
  const factor = zoomed ? Math.max(1, Math.floor(room * dense)) / dense : room;
  image.style.width = `${width * factor}px`;
  image.style.height = `${height * factor}px`;
  image.classList.toggle("pixels", zoomed);
  return Math.round(factor * dense);
}
