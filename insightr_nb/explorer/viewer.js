// Photographs with layers, zoomed and panned in step, and the texts and charts beside them.
//
// Python sets `scene` (blocks as nested dictionaries, see scene.py), `images` (their pictures by key), and what is
// `shown`. This component draws them, and sends an event for whatever is clicked. All coordinates are shares of a
// picture's side, from 0 to 1.

const FARTHEST = 40;
const STEP = 1.25; // of the zoom, per key or notch of the wheel
const MATCH = 4; // zoom that shows a match and its surroundings
const HELP = "wheel, drag and double click zoom and pan all photographs, each around its own match; arrow keys: the image "
  + "before and after; + - 0: zoom; Shift and arrows: pan; 1 to 8: choose a match; H: hide the maps";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const make = (tag, attributes = {}, ...children) => {
  const made = /^(svg|rect|polygon)$/.test(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const html = (content, name) => {
  const made = make("div", { class: name });
  made.innerHTML = content; // escaped by Python
  return made;
};

class Pane {
  /** One square picture. `reasons` are the matches among which a click chooses; a pair's panes have only one. */
  constructor(viewer, content) {
    Object.assign(this, { viewer, content });
    this.base = make("img", { class: "iv-base", alt: content.alt, draggable: "false" });
    this.stage = make("div", { class: "iv-stage" });
    this.badges = make("div", { class: "iv-badges" });
    this.root = make("div", { class: `iv-pane ${content.name ?? ""}` }, this.stage, this.badges);
    this.listen();
  }

  get reason() {
    const { reasons } = this.content;
    return reasons[Math.min(this.viewer.chosen, reasons.length - 1)] ?? {};
  }

  get anchor() {
    return this.reason.anchor ?? [0.5, 0.5];
  }

  /** How far the view has come from the whole picture, 0, to the surroundings of the match, 1. */
  get near() {
    return clamp(this.viewer.zoom - 1, 0, 1);
  }

  /** Point in the middle of the pane. */
  get centre() {
    return this.anchor.map((v, axis) => clamp(0.5 + this.near * (v + this.viewer.offset[axis] - 0.5), 0, 1));
  }

  /** Offset from the match, for all panes, that brings a point into the middle of this one. */
  offsetTo(centre) {
    return centre.map((v, axis) => (clamp(v, 0, 1) - 0.5) / this.near + 0.5 - this.anchor[axis]);
  }

  draw() {
    const { image, boxes = [], outlines = [] } = this.content;
    this.show(this.base, image);
    const svg = make("svg", { viewBox: "0 0 1 1", class: "iv-marks" });
    for (const points of outlines) svg.append(make("polygon", { points, class: "iv-outline" }));
    const side = ([x0, y0, x1, y1]) => ({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
    if (this.reason.field) svg.append(make("rect", { ...side(this.reason.field), class: "iv-field" }));
    for (const name of ["iv-casing", "iv-box"])
      for (const one of boxes) svg.append(make("rect", { ...side(one.box), class: name, stroke: one.colour }));
    const layers = Object.entries(this.reason.layers ?? {}).map(([name, key]) => {
      const layer = make("img", { class: `iv-layer iv-${name}`, alt: "", draggable: "false" });
      this.show(layer, key);
      return layer;
    });
    this.stage.replaceChildren(this.base, ...layers, svg);
    this.badges.replaceChildren(
      ...boxes.filter((one) => one.number).map((one) => {
        const badge = make("span", { class: "iv-badge", style: `background:${one.colour}` }, one.number);
        return Object.assign(badge, { box: one.box, place: boxes.filter((b) => `${b.box}` === `${one.box}`).indexOf(one) });
      }),
    );
    this.move();
  }

  show(element, key, url = this.viewer.url(key)) {
    if (element.src !== url) element.src = url;
  }

  move() {
    const { zoom } = this.viewer;
    const centre = this.centre;
    const at = (v, axis) => `${100 * ((v - centre[axis]) * zoom + 0.5)}%`;
    Object.assign(this.stage.style, { width: `${100 * zoom}%`, left: at(0, 0), top: at(0, 1) });
    for (const badge of this.badges.children) {
      badge.style.left = `calc(${at(badge.box[0], 0)} + ${18 * badge.place}px)`;
      badge.style.top = at(badge.box[1], 1);
      badge.classList.toggle("inside", badge.box[1] < 0.05); // at the upper edge, there is no place above
    }
    this.sharpen();
  }

  /** Ask for the picture at the resolution of the source once it is shown larger than it is. */
  sharpen() {
    const { detail } = this.content;
    if (detail == null) return;
    if (this.viewer.details.has(detail)) this.show(this.base, detail, this.viewer.details.get(detail) ?? this.base.src);
    else if (this.root.clientWidth * this.viewer.zoom > 1.2 * (this.base.naturalWidth || Infinity)) this.viewer.ask(detail);
  }

  listen() {
    let from = null;
    let moved = 0;
    const at = (event) => {
      const box = this.root.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    this.root.addEventListener("wheel", (event) => {
      if (event.deltaY > 0 && this.viewer.zoom <= 1) return; // nothing to shrink: the page scrolls
      event.preventDefault();
      this.viewer.zoomBy(STEP ** -Math.sign(event.deltaY), this, at(event));
    }, { passive: false });
    this.root.addEventListener("pointerdown", (event) => {
      [from, moved] = [at(event), 0];
      this.root.setPointerCapture(event.pointerId);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const now = at(event);
      moved += Math.abs(now[0] - from[0]) + Math.abs(now[1] - from[1]);
      this.viewer.panBy(from[0] - now[0], from[1] - now[1], this);
      from = now;
    });
    this.root.addEventListener("pointerup", () => { from = null; });
    this.root.addEventListener("click", (event) => {
      if (moved > 0.01 || event.detail > 1) event.stopPropagation(); // the end of a drag, or of a double click
      else this.click(at(event));
    });
    this.root.addEventListener("pointercancel", () => { from = null; });
    this.root.addEventListener("dblclick", () => this.viewer.toggle());
  }

  click(point) {
    const { centre } = this;
    const [x, y] = point.map((v, axis) => (v - 0.5) / this.viewer.zoom + centre[axis]);
    if (this.content.at) this.viewer.send({ event: "at", x, y });
    const hit = (this.content.boxes ?? []).filter(({ box: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1);
    const next = hit.find((one) => one.reason > this.viewer.chosen) ?? hit[0]; // of several in one place, in turn
    if (next?.reason != null) this.viewer.choose(next.reason);
  }
}

class Viewer {
  constructor(model, root) {
    Object.assign(this, { model, root, zoom: 1, offset: [0, 0], chosen: 0, waiting: 0, panes: [], asked: [] });
    Object.assign(this, { urls: new Map(), details: new Map(), stale: [] });
    this.listen();
    this.style();
    this.draw();
  }

  url(key) {
    if (!this.urls.has(key)) {
      const bytes = this.model.get("images")[key];
      const type = bytes.getUint8(0) === 0x89 ? "image/png" : "image/jpeg";
      this.urls.set(key, URL.createObjectURL(new Blob([bytes], { type })));
    }
    return this.urls.get(key);
  }

  async draw() {
    const scene = this.model.get("scene");
    const focused = document.activeElement === this.root;
    this.stale.push(...this.urls.values());
    if (scene.look !== this.look) {
      this.stale.push(...this.details.values());
      this.details = new Map();
    }
    if (scene.id !== this.id) Object.assign(this, { zoom: 1, offset: [0, 0], chosen: 0 });
    Object.assign(this, { id: scene.id, look: scene.look, urls: new Map(), asked: [], panes: [] });
    const blocks = (scene.blocks ?? []).map((block) => this.block(block));
    const { panes } = this;
    this.chosen = Math.min(this.chosen, this.count - 1);
    panes.forEach((pane) => pane.draw());
    const pictures = blocks.flatMap((block) => [...block.querySelectorAll("img")]);
    await Promise.all(pictures.map((picture) => picture.decode().catch(() => null))); // no flicker
    if (panes !== this.panes) return; // a later scene has come meanwhile
    const photographs = panes.some((pane) => pane.content.detail != null);
    this.root.replaceChildren(...(photographs ? [this.bar] : []), ...blocks);
    this.mark();
    this.stale.splice(0).forEach((url) => URL.revokeObjectURL(url));
    this.root.dataset.scene = scene.id;
    this.root.dataset.drawn = Number(this.root.dataset.drawn ?? 0) + 1;
    if (focused) this.root.focus({ preventScroll: true });
    panes.forEach((pane) => pane.sharpen());
    const explorer = this.root.closest(".insightr-explorer:not([data-seen])");
    if (explorer) {
      explorer.dataset.seen = "true"; // after Run All, the explorer is in view
      explorer.scrollIntoView();
    }
  }

  block(content) {
    const made = make("div", { class: `iv-block iv-${content.kind}`, style: content.style });
    if (content.title) made.append(html(content.title, "iv-title"));
    if (content.kind === "column") made.append(...content.blocks.map((block) => this.block(block)));
    for (const pane of content.panes ?? []) made.append(this.pane(pane));
    const pairs = make("div", { class: "iv-grid" });
    if (content.pairs) made.append(pairs);
    for (const [n, pair] of (content.pairs ?? []).entries()) {
      const panes = make("div", { class: "iv-panes" }, ...pair.panes.map((pane) => this.pane(pane)));
      const shown = make("div", { class: "iv-pair", "data-reason": n }, panes, html(pair.caption, "iv-caption"));
      shown.addEventListener("click", () => this.choose(n));
      pairs.append(shown);
    }
    for (const thumb of content.thumbs ?? []) {
      const picture = make("img", { src: this.url(thumb.image), alt: thumb.alt, draggable: "false" });
      const { go, state = "", pressed } = thumb;
      const caption = html(thumb.caption, "iv-caption");
      made.append(make("button", { class: `iv-thumb ${state}`, "data-go": go, "aria-pressed": pressed }, picture, caption));
    }
    if (content.html) made.append(html(content.html, "iv-html"));
    return made;
  }

  pane(content) {
    const pane = new Pane(this, content);
    this.panes.push(pane);
    return pane.root;
  }

  // -- zoom and pan, in step over all panes: one zoom, and one offset from the match that a pane shows

  zoomBy(factor, pane = null, point = [0.5, 0.5]) {
    const before = pane?.centre;
    const last = this.zoom;
    this.zoom = clamp(last * factor, 1, FARTHEST);
    if (this.zoom === 1) this.offset = [0, 0];
    else if (pane) // what is under the pointer stays there
      this.offset = pane.offsetTo(before.map((c, axis) => c + (point[axis] - 0.5) * (1 / last - 1 / this.zoom)));
    this.move();
  }

  panBy(dx, dy, pane = this.panes[0]) {
    if (this.zoom === 1) return;
    this.offset = pane.offsetTo(pane.centre.map((c, axis) => c + [dx, dy][axis] / this.zoom));
    this.move();
  }

  toggle() {
    Object.assign(this, { zoom: this.zoom === 1 ? MATCH : 1, offset: [0, 0] });
    this.move();
  }

  move() {
    this.root.dataset.zoom = this.zoom.toFixed(2);
    for (const pane of this.panes) pane.move();
    clearTimeout(this.told);
    const view = { zoom: this.zoom, offset: this.offset, chosen: this.chosen };
    this.told = setTimeout(() => this.send({ event: "view", scene: this.id, view }), 150);
  }

  choose(n) {
    if (n === this.chosen) return;
    Object.assign(this, { chosen: n, offset: [0, 0] });
    for (const pane of this.panes) if (pane.content.reasons.length > 1) pane.draw();
    this.mark();
    this.move();
  }

  mark() {
    for (const pair of this.root.querySelectorAll(".iv-pair"))
      pair.classList.toggle("chosen", Number(pair.dataset.reason) === this.chosen);
  }

  style() {
    const hidden = this.root.classList.contains("hide-maps") ? "hide-maps" : "";
    this.root.className = `insightr-viewer ${hidden} ${this.model.get("shown").map((name) => `show-${name}`).join(" ")}`;
    this.root.style.setProperty("--iv-opacity", this.model.get("opacity"));
  }

  // -- events

  send(event) {
    this.waiting += 1;
    this.root.setAttribute("aria-busy", "true");
    this.model.send(event);
  }

  ask(detail) {
    if (this.asked.includes(detail)) return;
    this.asked.push(detail);
    if (this.asked.length === 1) this.send({ event: "detail", key: detail });
  }

  receive(message, buffers) {
    if (message.done) {
      this.waiting = Math.max(this.waiting - 1, 0);
      if (!this.waiting) this.root.removeAttribute("aria-busy");
    } else if (message.look === this.look && this.asked[0] === message.detail) {
      const url = buffers.length ? URL.createObjectURL(new Blob(buffers, { type: "image/jpeg" })) : null; // null: none
      this.details.set(this.asked.shift(), url);
      for (const pane of this.panes) pane.sharpen();
      if (this.asked.length) this.send({ event: "detail", key: this.asked[0] });
    }
  }

  close() {
    for (const url of [...this.urls.values(), ...this.details.values(), ...this.stale]) URL.revokeObjectURL(url);
  }

  tools() {
    const acts = {
      whole: () => this.zoomBy(0),
      matches: () => { this.zoom = 1; this.toggle(); },
      "−": () => this.zoomBy(1 / STEP),
      "+": () => this.zoomBy(STEP),
      "hide maps": () => this.root.classList.toggle("hide-maps"),
    };
    const buttons = Object.entries(acts).map(([name, act]) => {
      const made = make("button", { class: "iv-tool" }, name);
      made.addEventListener("click", act);
      return made;
    });
    return make("div", { class: "iv-bar" }, ...buttons, make("span", { title: HELP, class: "iv-help" }, "keys ?"));
  }

  listen() {
    this.bar = this.tools();
    this.root.addEventListener("click", (event) => {
      const link = event.target.closest("[data-go]");
      if (link) this.send({ event: "go", to: link.dataset.go });
    });
    this.root.addEventListener("keydown", (event) => {
      const pan = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      const act =
        event.ctrlKey || event.metaKey || event.altKey ? null
        : event.key === "+" || event.key === "=" ? () => this.zoomBy(STEP)
        : event.key === "-" ? () => this.zoomBy(1 / STEP)
        : event.key === "0" ? () => this.zoomBy(0)
        : event.key === "h" || event.key === "H" ? () => this.root.classList.toggle("hide-maps")
        : pan && event.shiftKey ? () => this.panBy(...pan)
        : pan && pan[0] ? () => this.send({ event: "step", by: Math.sign(pan[0]) })
        : /^[1-9]$/.test(event.key) ? () => this.choose(Math.min(event.key, this.count) - 1)
        : null;
      if (!act) return;
      event.preventDefault();
      event.stopPropagation();
      act();
    });
  }

  get count() {
    return Math.max(...this.panes.map((pane) => pane.content.reasons.length), 1);
  }
}

export default {
  render({ model, el }) {
    const root = make("div", { tabindex: "0", role: "group", "aria-label": `pictures: ${HELP}`, "data-lm-suppress-shortcuts": "true" });
    el.append(root);
    const viewer = new Viewer(model, root);
    model.on("change:scene", () => viewer.draw());
    model.on("change:shown change:opacity", () => viewer.style());
    model.on("msg:custom", (message, buffers) => viewer.receive(message, buffers));
    return () => viewer.close();
  },
};
