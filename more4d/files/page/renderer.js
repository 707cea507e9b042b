// Draws the scene with WebGL2: as points, by the rule of more4d's own z-buffer, or as splats.
"use strict";

// Both kinds of drawing fetch a splat by its index and move it: textures of 2048 texels in a row.
const FETCH = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
// 4 texels each: position and footprint; covariance; its rest, moment and rate of fading; colour and opacity
uniform sampler2D splats;
uniform sampler2D weights;   // 4 texels each, of those that move
uniform vec3 paths[16];
uniform int still;
uniform mat3 rotation;       // world to camera
uniform vec3 translation;
uniform vec4 intrinsics;     // fx, fy, cx, cy in pixels
uniform vec2 size;           // of the picture in pixels
uniform float near;
uniform float scale;         // of splats and points, 1 as they are
uniform float time;          // in frames
in uint index;

vec4 texel(sampler2D from, int at) { return texelFetch(from, ivec2(at & 2047, at >> 11), 0); }

vec3 moved(int i) {
  vec3 place = texel(splats, 4 * i).xyz;
  if (i < still) return place;
  vec3 away = vec3(0);
  for (int k = 0; k < 4; k++) {
    vec4 w = texel(weights, 4 * (i - still) + k);
    away += w.x * paths[4 * k] + w.y * paths[4 * k + 1] + w.z * paths[4 * k + 2] + w.w * paths[4 * k + 3];
  }
  return place + place.z * away;
}

float fade(int i) {
  vec2 window = texel(splats, 4 * i + 2).zw;
  float away = (time - window.x) * window.y;
  return exp(-0.5 * away * away);
}

vec2 corner() { return vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0; }
// Pixels, y down, to clip space.
vec4 clip(vec2 pixel) { return vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0, 1); }
const vec4 NOWHERE = vec4(2, 2, 2, 1);
`;

// A point covers a box around it, at least the pixel it falls in; a margin of half a box closes cracks, and
// competes as if it lay 4 footprints farther away (more4d/raster/interface.py).
const POINT_VERTEX = `${FETCH}
uniform float margin;
flat out vec2 centre;
flat out vec2 half_box;
flat out vec2 depths;
flat out vec3 colour;
void main() {
  int i = int(index);
  vec3 here = rotation * moved(i) + translation;
  if (!(here.z > near) || fade(i) < 0.5) { gl_Position = NOWHERE; return; }
  float footprint = texel(splats, 4 * i).w * scale;
  centre = here.xy / here.z * intrinsics.xy + intrinsics.zw;
  half_box = min(footprint / here.z * 0.5 * intrinsics.xy, vec2(max(0.5, max(size.x, size.y) / 16.0)));
  depths = 1.0 - near / vec2(here.z, here.z + 4.0 * footprint);
  colour = texel(splats, 4 * i + 3).rgb;
  gl_Position = clip(centre + corner() * (max(half_box * margin, 0.5) + 1.0));
}`;

const POINT_FRAGMENT = `#version 300 es
precision highp float;
uniform vec2 size;
uniform float margin;
flat in vec2 centre;
flat in vec2 half_box;
flat in vec2 depths;
flat in vec3 colour;
out vec4 result;

bool covers(vec2 pixel, vec2 reach) {   // first <= pixel < stop, as in raster/zbuffer.py
  vec2 first = floor(centre + (0.5 - max(reach, 0.5)));
  vec2 stop = mix(first + 1.0, floor(centre + (reach + 0.5)), greaterThan(reach, vec2(0.5)));
  return all(greaterThanEqual(pixel, first)) && all(lessThan(pixel, stop));
}

void main() {
  vec2 pixel = floor(vec2(gl_FragCoord.x, size.y - gl_FragCoord.y));
  if (!covers(pixel, half_box * margin)) discard;
  gl_FragDepth = covers(pixel, half_box) ? depths.x : depths.y;
  result = vec4(colour, 1);
}`;

// Elliptical weighted average (Zwicker et al., EWA splatting, 2001): the covariance of the projection to first order.
const SPLAT_VERTEX = `${FETCH}
uniform float low_pass;      // pixels^2: no splat is thinner
out vec2 where;              // in standard deviations
flat out vec4 colour;
void main() {
  int i = int(index);
  vec3 here = rotation * moved(i) + translation;
  colour = texel(splats, 4 * i + 3);
  colour.a *= fade(i);
  vec2 slope = here.xy / here.z;
  vec2 centre = slope * intrinsics.xy + intrinsics.zw;
  // Splats far outside would be smeared over the picture: the first order does not hold for them.
  bool outside = any(greaterThan(abs(centre / size - 0.5), vec2(0.8)));
  float weakest = 1.0 / 255.0;
  if (!(here.z > near) || outside || colour.a < weakest) { gl_Position = NOWHERE; return; }
  vec4 a = texel(splats, 4 * i + 1), b = texel(splats, 4 * i + 2);
  mat3 world = scale * scale * mat3(a.x, a.y, a.z, a.y, a.w, b.x, a.z, b.x, b.y);
  mat3 seen = rotation * world * transpose(rotation);
  vec3 du = vec3(1, 0, -slope.x) * intrinsics.x / here.z;
  vec3 dv = vec3(0, 1, -slope.y) * intrinsics.y / here.z;
  float uu = dot(du, seen * du) + low_pass, uv = dot(du, seen * dv), vv = dot(dv, seen * dv) + low_pass;
  // Axes of the ellipse: eigenvectors of [uu uv; uv vv].
  float mean = 0.5 * (uu + vv), apart = length(vec2(0.5 * (uu - vv), uv));
  float larger = mean + apart, smaller = max(mean - apart, 1e-6);
  vec2 axis = apart < 1e-6 * mean ? vec2(1, 0)
    : uu >= vv ? normalize(vec2(larger - vv, uv)) : normalize(vec2(uv, larger - uu));
  float reach = sqrt(2.0 * log(colour.a / weakest));
  where = corner() * reach;
  vec2 away = where.x * sqrt(larger) * axis + where.y * sqrt(smaller) * vec2(-axis.y, axis.x);
  gl_Position = clip(centre + away);
}`;

const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec2 where;
flat in vec4 colour;
out vec4 result;
void main() {
  float alpha = min(colour.a * exp(-0.5 * dot(where, where)), 0.995);
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(colour.rgb * alpha, alpha);
}`;

// Splats add up to less than full opacity where they touch. Their colour is divided by it, as films do, so that
// the dark of the page does not shine through; what is less than half covered fades out.
const SHOW_VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0, 0, 1); }`;

const SHOW_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D sums;
out vec4 result;
void main() {
  vec4 sum = texelFetch(sums, ivec2(gl_FragCoord.xy), 0);
  float shown = min(1.0, 2.0 * sum.a);
  result = sum.a > 0.0 ? vec4(min(sum.rgb / sum.a, 1.0) * shown, shown) : vec4(0);
}`;

const ROW = 2048;

class Renderer {
  /** Draws `scene` (scene.js) on a canvas; `look` holds near, low_pass and margin of the page's header. */
  constructor(canvas, scene, look) {
    this.canvas = canvas;
    this.scene = scene;
    this.look = look;
    const options = { alpha: true, antialias: false, depth: true, preserveDrawingBuffer: false };
    const gl = (this.gl = canvas.getContext("webgl2", options));
    if (!gl) throw new Error("this browser has no WebGL2");
    this.points = program(gl, POINT_VERTEX, POINT_FRAGMENT);
    this.splats = program(gl, SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.show = program(gl, SHOW_VERTEX, SHOW_FRAGMENT);
    this.sums = { frame: gl.createFramebuffer(), texture: gl.createTexture(), size: [0, 0] };
    this.textures = [texture(gl, scene.splats), texture(gl, scene.weights)];
    this.centres = new Float32Array(3 * scene.count);
    for (let i = 0; i < scene.count; i++) {
      for (let axis = 0; axis < 3; axis++) this.centres[3 * i + axis] = scene.splats[16 * i + axis];
    }
    this.inOrder = Uint32Array.from({ length: scene.count }, (_, i) => i);
    this.sorted = new Uint32Array(scene.count);
    this.keys = new Uint16Array(scene.count);
    this.depths = new Float32Array(scene.count);
    this.buffer = gl.createBuffer();
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.inOrder, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    this.uploaded = "in order";
  }

  /**
   * Draw one moment. `view`: pose (3 x 4 by rows, world to camera), intrinsics (fx, fy, cx, cy in pixels),
   * size [width, height]; `style`: "points" or "splats"; `scale` of what is drawn.
   */
  draw(time, view, style, scale = 1, target = null) {
    const { gl, scene } = this;
    const paths = pathsAt(scene, time);
    const [width, height] = view.size;
    const splats = style === "splats";
    if (splats) this.sumsOf(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, splats ? this.sums.frame : target);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.bindVertexArray(this.array);
    if (splats) this.sort(time, paths, view.pose);
    else if (this.uploaded !== "in order") this.upload(this.inOrder, "in order");
    (splats ? gl.disable : gl.enable).call(gl, gl.DEPTH_TEST);
    (splats ? gl.enable : gl.disable).call(gl, gl.BLEND);
    gl.depthFunc(gl.LESS);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const { name, at } = splats ? this.splats : this.points;
    gl.useProgram(name);
    const p = view.pose;
    gl.uniform1i(at("splats"), 0);
    gl.uniform1i(at("weights"), 1);
    gl.uniform3fv(at("paths"), paths);
    gl.uniform1i(at("still"), scene.still);
    gl.uniformMatrix3fv(at("rotation"), false, [p[0], p[4], p[8], p[1], p[5], p[9], p[2], p[6], p[10]]);
    gl.uniform3f(at("translation"), p[3], p[7], p[11]);
    gl.uniform4f(at("intrinsics"), ...view.intrinsics);
    gl.uniform2f(at("size"), width, height);
    gl.uniform1f(at("near"), this.look.near);
    gl.uniform1f(at("scale"), scale);
    gl.uniform1f(at("time"), time);
    gl.uniform1f(at(splats ? "low_pass" : "margin"), splats ? this.look.low_pass : this.look.margin);
    this.textures.forEach((each, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, each);
    });
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, scene.count);
    if (splats) this.showSums(target);
  }

  /** A texture of the picture's size for the sums of splats. */
  sumsOf(width, height) {
    const { gl, sums } = this;
    if (sums.size[0] === width && sums.size[1] === height) return;
    gl.bindTexture(gl.TEXTURE_2D, sums.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, sums.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, sums.texture, 0);
    sums.size = [width, height];
  }

  showSums(target) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.disable(gl.BLEND);
    gl.useProgram(this.show.name);
    gl.uniform1i(this.show.at("sums"), 0);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.sums.texture);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** Order of all splats from far to near, by a counting sort over 65536 steps of 1 / depth. */
  sort(time, paths, pose) {
    const asked = `${time} ${pose}`;
    if (this.uploaded === asked) return;
    const { keys, depths, sorted, centres, scene } = this;
    centresAt(scene, paths, centres);
    const nearest = this.look.near;
    let low = Infinity, high = 0;
    for (let i = 0; i < scene.count; i++) {
      const at = 3 * i;
      const z = pose[8] * centres[at] + pose[9] * centres[at + 1] + pose[10] * centres[at + 2] + pose[11];
      depths[i] = 1 / Math.max(z, nearest);
      // As it was rounded: with the exact number the farthest would lie before the first step.
      const inverse = depths[i];
      if (inverse < low) low = inverse;
      // What is behind the camera is not drawn, and shall not take the steps of what is.
      if (z > nearest && inverse > high) high = inverse;
    }
    const step = high > low ? 65535 / (high - low) : 0;
    const starts = new Uint32Array(65537);
    for (let i = 0; i < scene.count; i++) {
      const key = Math.min(65535, Math.floor((depths[i] - low) * step));
      keys[i] = key;
      starts[key + 1]++;
    }
    for (let key = 0; key < 65536; key++) starts[key + 1] += starts[key];
    for (let i = 0; i < scene.count; i++) sorted[starts[keys[i]]++] = i;
    this.upload(sorted, asked);
  }

  upload(order, name) {
    const { gl } = this;
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, order);
    this.uploaded = name;
  }

  /** One picture off the screen: RGBA bytes from the top row down, colour multiplied by opacity. */
  picture(time, view, style, scale = 1) {
    const { gl } = this;
    const [width, height] = view.size;
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    const parts = [[gl.RGBA8, gl.COLOR_ATTACHMENT0], [gl.DEPTH_COMPONENT24, gl.DEPTH_ATTACHMENT]];
    const memory = parts.map(([format, place]) => {
      const part = gl.createRenderbuffer();
      gl.bindRenderbuffer(gl.RENDERBUFFER, part);
      gl.renderbufferStorage(gl.RENDERBUFFER, format, width, height);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, place, gl.RENDERBUFFER, part);
      return part;
    });
    this.draw(time, view, style, scale, frame);
    const upward = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, upward);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    memory.forEach((part) => gl.deleteRenderbuffer(part));
    gl.deleteFramebuffer(frame);
    const bytes = new Uint8ClampedArray(upward.length);
    for (let row = 0; row < height; row++) {
      bytes.set(upward.subarray(4 * width * row, 4 * width * (row + 1)), 4 * width * (height - 1 - row));
    }
    return bytes;
  }
}

function program(gl, vertex, fragment) {
  const name = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(name, shader);
  }
  gl.bindAttribLocation(name, 0, "index");
  gl.linkProgram(name);
  if (!gl.getProgramParameter(name, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(name));
  const places = new Map();
  const at = (uniform) => {
    if (!places.has(uniform)) places.set(uniform, gl.getUniformLocation(name, uniform));
    return places.get(uniform);
  };
  return { name, at };
}

function texture(gl, values) {
  const texels = Math.max(1, values.length / 4);
  const rows = Math.ceil(texels / ROW);
  const padded = new Float32Array(4 * ROW * rows);
  padded.set(values);
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, ROW, rows, 0, gl.RGBA, gl.FLOAT, padded);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  return made;
}
