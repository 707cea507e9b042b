// Plays the scene: time, cameras, mouse, touch and keyboard, pictures and videos.
"use strict";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const LOOPS = ["loop", "there and back", "once"];
const FREE = "free";
const element = (id) => document.getElementById(id);
// Paths, not characters: fonts may lack those.
const SHAPES = { play: "M3 1v14l11-7z", pause: "M3 2h4v12h-4zM9 2h4v12h-4z", film: "M8 2a6 6 0 1 0 .1 0z", stop: "M3 3h10v10h-10z" };
const draw = (id, shape) => element(id).querySelector("path").setAttribute("d", SHAPES[shape]);

class Player {
  constructor(canvas, header, bytes) {
    this.canvas = canvas;
    this.header = header;
    this.scene = readScene(header, bytes);
    this.renderer = new Renderer(canvas, this.scene, header.look);
    this.free = new FreeCamera(header.distance);
    this.camera = FREE;
    this.style = header.style;
    this.scale = 1;
    this.time = 0;
    this.direction = 1;
    this.speed = 1;
    this.loop = LOOPS[0];
    this.held = new Set();
    this.playing = header.frames > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.before = null;
    this.drawn = null;
    this.recorder = null;
    requestAnimationFrame((now) => this.step(now));
  }

  get last() {
    return this.header.frames - 1;
  }

  /** The view of the current camera on a picture of `size`. */
  view(size) {
    const path = this.header.cameras[this.camera];
    const { pose, intrinsics } = path
      ? cameraAt(path, this.time)
      : { pose: this.free.pose, intrinsics: this.header.intrinsics };
    return { pose, intrinsics: fitted(intrinsics, this.header.size, size), size };
  }

  step(now) {
    const seconds = this.before === null ? 0 : Math.min((now - this.before) / 1000, 0.25);
    this.before = now;
    if (this.playing) this.advance(seconds * this.header.fps * this.speed);
    this.fly(seconds);
    this.fit();
    const state = [this.time, this.camera, this.free.pose, this.style, this.scale, this.canvas.width, this.canvas.height].join();
    if (state !== this.drawn || this.recorder) this.redraw(state);
    requestAnimationFrame((later) => this.step(later));
  }

  redraw(state) {
    this.renderer.draw(this.time, this.view([this.canvas.width, this.canvas.height]), this.style, this.scale);
    this.drawn = state;
    this.show();
  }

  /** Time goes on by some frames. */
  advance(frames) {
    const next = this.time + frames * this.direction;
    if (next >= 0 && next <= this.last) {
      this.time = next;
      return;
    }
    const ended = this.recorder !== null || this.loop === "once";
    if (ended) {
      this.time = this.last;
      this.playing = false;
      if (this.recorder) this.recorder.stop();
    } else if (this.loop === "loop") {
      this.time = this.last > 0 ? next % this.last : 0;
    } else {
      this.direction = next < 0 ? 1 : -1;
      this.time = next < 0 ? Math.min(-next, this.last) : Math.max(2 * this.last - next, 0);
    }
  }

  fly(seconds) {
    const axis = (more, less) => this.held.has(more) - this.held.has(less);
    const along = [axis("d", "a"), axis("q", "e"), axis("w", "s")];
    if (!along.some(Boolean)) return;
    this.leavePath();
    const metres = 0.7 * this.header.distance * seconds;
    this.free.move(...along.map((way) => way * metres));
  }

  /** The canvas has as many pixels as the screen shows, at most 2560 along a side. */
  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = Math.min(window.devicePixelRatio || 1, 2560 / Math.max(clientWidth, clientHeight, 1));
    const width = Math.max(1, Math.round(clientWidth * ratio));
    const height = Math.max(1, Math.round(clientHeight * ratio));
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
  }

  leavePath() {
    if (this.camera === FREE) return;
    this.free.take(this.view(this.header.size).pose);
    this.ride(FREE);
  }

  /** Film along a path of the item, by its index, or by FREE. */
  ride(camera) {
    this.camera = camera;
    element("camera").value = String(camera);
  }

  photo() {
    this.free.toPhoto();
    this.ride(FREE);
  }

  toggle() {
    if (this.loop === "once" && !this.playing && this.time >= this.last) this.time = 0;
    this.playing = !this.playing && this.last > 0;
    this.drawn = null;
  }

  seek(time) {
    this.playing = false;
    this.time = Math.min(Math.max(time, 0), this.last);
  }

  setSpeed(speed) {
    this.speed = speed;
    element("speed").value = String(speed);
  }

  setLoop(loop) {
    this.loop = loop;
    this.direction = 1;
    element("loop").value = loop;
  }

  setStyle(style) {
    this.style = style;
    element("style").value = style;
  }

  /** What the controls say. */
  show() {
    draw("play", this.playing ? "pause" : "play");
    element("play").setAttribute("aria-label", this.playing ? "pause" : "play");
    element("time").value = String(this.time);
    element("clock").textContent = `${(this.time / this.header.fps).toFixed(2)} s`;
    draw("record", this.recorder ? "stop" : "film");
    element("record").querySelector("span").textContent = this.recorder ? "stop" : "video";
  }

  /** The picture on the screen as PNG; where nothing is, it is transparent. */
  savePicture() {
    this.redraw(null);
    const name = `${this.header.name}-${this.time.toFixed(2)}.png`;
    this.canvas.toBlob((blob) => download(blob, name), "image/png");
  }

  /** Film from the first frame to the last at the speed that is set, or stop. */
  record() {
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    const kinds = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
    const kind = window.MediaRecorder && kinds.find((each) => MediaRecorder.isTypeSupported(each));
    if (!kind) {
      element("message").textContent = "this browser cannot record videos";
      return;
    }
    const parts = [];
    const options = { mimeType: kind, videoBitsPerSecond: 16e6 };
    this.recorder = new MediaRecorder(this.canvas.captureStream(60), options);
    this.recorder.ondataavailable = (event) => parts.push(event.data);
    this.recorder.onstop = () => {
      this.recorder = null;
      this.drawn = null;
      download(new Blob(parts, { type: kind }), `${this.header.name}.${kind.includes("mp4") ? "mp4" : "webm"}`);
    };
    this.time = 0;
    this.direction = 1;
    this.playing = true;
    this.recorder.start();
  }
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** Buttons, lists and the slider. */
function connectControls(player) {
  const choices = (id, entries, chosen) => {
    for (const [value, text] of entries) element(id).add(new Option(text, value, false, String(value) === String(chosen)));
  };
  choices("speed", SPEEDS.map((speed) => [speed, `${speed} ×`]), player.speed);
  choices("loop", LOOPS.map((loop) => [loop, loop]), player.loop);
  choices("style", [["points", "points"], ["splats", "splats"]], player.style);
  const paths = player.header.cameras.map((path, index) => [index, `${index + 1}: ${path.name}`]);
  choices("camera", [[FREE, "free camera"], ...paths], player.camera);
  element("time").max = String(player.last);
  element("time").oninput = (event) => player.seek(Number(event.target.value));
  element("play").onclick = () => player.toggle();
  element("speed").onchange = (event) => player.setSpeed(Number(event.target.value));
  element("loop").onchange = (event) => player.setLoop(event.target.value);
  element("style").onchange = (event) => player.setStyle(event.target.value);
  element("camera").onchange = (event) => {
    const chosen = event.target.value;
    if (chosen === FREE) player.leavePath();
    else player.ride(Number(chosen));
  };
  element("scale").oninput = (event) => { player.scale = Number(event.target.value); };
  element("photo").onclick = () => player.photo();
  element("picture").onclick = () => player.savePicture();
  element("record").onclick = () => player.record();
  element("help").onclick = () => { element("keys").hidden = !element("keys").hidden; };
  // Keys are for the scene, also after a click on a control.
  for (const control of document.querySelectorAll("button, select")) control.addEventListener("change", () => control.blur());
}

function connectKeyboard(player) {
  const next = (list, now, by) => list[Math.min(Math.max(list.indexOf(now) + by, 0), list.length - 1)];
  const keys = {
    " ": () => player.toggle(),
    arrowleft: () => player.seek(Math.ceil(player.time - 1)),
    arrowright: () => player.seek(Math.floor(player.time + 1)),
    home: () => player.seek(0),
    end: () => player.seek(player.last),
    "[": () => player.setSpeed(next(SPEEDS, player.speed, -1)),
    "]": () => player.setSpeed(next(SPEEDS, player.speed, 1)),
    l: () => player.setLoop(LOOPS[(LOOPS.indexOf(player.loop) + 1) % LOOPS.length]),
    p: () => player.setStyle(player.style === "points" ? "splats" : "points"),
    f: () => player.photo(),
    0: () => player.leavePath(),
    i: () => player.savePicture(),
    r: () => player.record(),
    h: () => element("help").click(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
    const key = event.key.toLowerCase();
    const path = Number(key) - 1;
    if ("wasdqe".includes(key) && key !== "") player.held.add(key);
    else if (keys[key]) keys[key]();
    else if (path in player.header.cameras) player.ride(path);
    else return;
    event.preventDefault();
  });
  addEventListener("keyup", (event) => player.held.delete(event.key.toLowerCase()));
  addEventListener("blur", () => player.held.clear());
}

/** One finger or button orbits; two fingers, the right button or shift move; pinch and wheel approach. */
function connectPointers(player) {
  const { canvas } = player;
  const fingers = new Map();
  const middle = () => {
    const all = [...fingers.values()];
    return [0, 1].map((axis) => all.reduce((sum, at) => sum + at[axis], 0) / all.length);
  };
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    player.leavePath();
    const [x, y] = middle(), apart = spread();
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const [dx, dy] = [middle()[0] - x, middle()[1] - y];
    if (fingers.size > 1 || event.buttons & 2 || event.shiftKey) {
      const pixels = fitted(player.header.intrinsics, player.header.size, [canvas.clientWidth, canvas.clientHeight]);
      player.free.move((-dx * player.free.distance) / pixels[0], (-dy * player.free.distance) / pixels[1], 0);
      if (apart > 0 && spread() > 0) player.free.approach(apart / spread());
    } else {
      player.free.orbit((dx * Math.PI) / canvas.clientWidth, (dy * Math.PI) / canvas.clientHeight);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => player.photo());
  const zoom = (event) => {
    event.preventDefault();
    player.leavePath();
    player.free.approach(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) / 500));
  };
  canvas.addEventListener("wheel", zoom, { passive: false });
}

async function start() {
  const header = JSON.parse(element("header").textContent);
  const bytes = await unpack(element("scene").textContent);
  element("scene").remove();
  const canvas = element("canvas");
  canvas.addEventListener("webglcontextlost", () => {
    element("message").textContent = "the graphics card was taken away; load the page again";
  });
  const player = new Player(canvas, header, bytes);
  connectControls(player);
  connectKeyboard(player);
  connectPointers(player);
  element("message").textContent = "";
  window.more4d = player;
}

start().catch((error) => {
  element("message").textContent = `the scene cannot be shown: ${error.message}`;
  throw error;
});
