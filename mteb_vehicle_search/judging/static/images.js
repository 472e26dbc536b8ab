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

// How many device pixels a stored one is wide, if each is to be a square of whole ones.
const whole = (room, dense) => Math.max(1, Math.floor(room * dense));

function roomFor(image, stage) {
  return Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
}

/** Lay the image of a stage out: as large as fits, or (zoomed) each stored pixel as a square of whole device pixels. */
export function fitAll(stage, zoomed) {
  for (const image of stage.querySelectorAll("img")) {
    if (!image.naturalWidth || !stage.clientWidth) continue;
    const room = roomFor(image, stage), dense = devicePixelRatio || 1;
    const factor = zoomed ? whole(room, dense) / dense : room;
    image.style.width = `${image.naturalWidth * factor}px`;
    image.style.height = `${image.naturalHeight * factor}px`;
    image.classList.toggle("pixels", zoomed);
  }
}

/** Say how large the image of a stage is, and how much it is enlarged if that is a whole number. */
export function scaleOf(stage, zoomed) {
  const image = stage.querySelector("img");
  if (!image?.naturalWidth) return image ? "Loading" : "";
  const size = `${image.naturalWidth} × ${image.naturalHeight} pixels`;
  return zoomed ? `${size}, × ${whole(roomFor(image, stage), devicePixelRatio || 1)}` : size;
}
