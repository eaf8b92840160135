// Zoom and pan of layers of one size in a stage: by mouse, fingers and keys.

const LARGEST = 40;
const STEP = 1.25;

export class View {
  /** `changed()` is called after every move; `pointed(x, y, byKey)` with the place in the picture that is looked at. */
  constructor(stage, layers, { changed, pointed }) {
    Object.assign(this, { stage, layers, changed, pointed });
    this.width = this.height = this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
    this.fingers = new Map();
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.up(event));
    stage.addEventListener("dblclick", (event) => {
      if (this.ours(event)) this.fitted ? this.zoomTo(Math.max(1, 3 * this.scale), this.at(event)) : this.fit();
    });
    stage.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => (this.fitted ? this.fit() : this.place())).observe(stage);
  }

  /** A picture of another size: show it whole. */
  open(width, height) {
    Object.assign(this, { width, height });
    this.layers.style.width = `${width}px`;
    this.layers.style.height = `${height}px`;
    this.fit();
  }

  get whole() {
    return Math.min(this.stage.clientWidth / this.width, this.stage.clientHeight / this.height);
  }

  fit() {
    this.scale = this.whole;
    this.x = (this.stage.clientWidth - this.width * this.scale) / 2;
    this.y = (this.stage.clientHeight - this.height * this.scale) / 2;
    this.place();
    this.fitted = true;
  }

  /** Zoom so that what is at [x, y] of the stage stays there; without it, the middle. */
  zoomTo(scale, [x, y] = this.middle) {
    const wanted = Math.min(Math.max(scale, Math.min(1, this.whole / 2)), Math.max(LARGEST, this.whole));
    this.x = x - ((x - this.x) * wanted) / this.scale;
    this.y = y - ((y - this.y) * wanted) / this.scale;
    this.scale = wanted;
    this.place();
  }

  zoomBy(factor, at) {
    this.zoomTo(this.scale * factor, at);
  }

  pan(right, down) {
    this.x += right;
    this.y += down;
    this.place();
  }

  /** Every pixel can come to the middle of the stage, and none goes farther. */
  place() {
    const [x, y] = this.middle;
    this.x = Math.min(x, Math.max(x - this.width * this.scale, this.x));
    this.y = Math.min(y, Math.max(y - this.height * this.scale, this.y));
    this.layers.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.layers.classList.toggle("large", this.scale >= 2);
    this.fitted = false;
    this.changed();
  }

  get middle() {
    return [this.stage.clientWidth / 2, this.stage.clientHeight / 2];
  }

  at(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left - this.stage.clientLeft, event.clientY - box.top - this.stage.clientTop];
  }

  /** From the stage to the picture's pixels. */
  pixel([x, y]) {
    return [Math.floor((x - this.x) / this.scale), Math.floor((y - this.y) / this.scale)];
  }

  /** The line on the stage takes its own events. */
  ours(event) {
    return !event.target.closest("#line");
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) / 400), this.at(event));
    this.pointed(...this.pixel(this.at(event)), false);
  }

  down(event) {
    if (!this.ours(event)) return;
    this.stage.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, this.at(event));
    this.stage.classList.add("moving");
    this.pointed(...this.pixel(this.at(event)), false);
  }

  move(event) {
    const now = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (before) {
      const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
      this.pan((now[0] - before[0]) / this.fingers.size, (now[1] - before[1]) / this.fingers.size);
      if (other) {
        const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
        this.zoomBy(distance(now, other) / Math.max(1, distance(before, other)), middle);
      }
      this.fingers.set(event.pointerId, now);
    }
    if (this.ours(event)) this.pointed(...this.pixel(now), false);
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    this.stage.classList.toggle("moving", this.fingers.size > 0);
  }

  key(event) {
    if (event.target !== this.stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 200 : 40;
    const does = {
      ArrowLeft: () => this.pan(step, 0),
      ArrowRight: () => this.pan(-step, 0),
      ArrowUp: () => this.pan(0, step),
      ArrowDown: () => this.pan(0, -step),
      "+": () => this.zoomBy(STEP),
      "=": () => this.zoomBy(STEP),
      "-": () => this.zoomBy(1 / STEP),
      0: () => this.fit(),
      1: () => this.zoomTo(1),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
    this.pointed(...this.pixel(this.middle), true);
  }
}

function distance([ax, ay], [bx, by]) {
  return Math.hypot(ax - bx, ay - by);
}
