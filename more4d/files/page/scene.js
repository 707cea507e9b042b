// The scene of this page: numbers as more4d/files/html_page.py packed them, and the camera along its paths.
"use strict";

/** Bytes of the page's data, unpacked: base64 of gzip. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Columns of numbers by their names; every column holds its components one after the other. */
function readColumns(bytes, columns) {
  const found = {};
  let start = 0;
  for (const column of columns) {
    const { name, size, count, low, high } = column;
    const components = low.length;
    const values = new Float32Array(count * components);
    const most = 2 ** (8 * size) - 1;
    for (let component = 0; component < components; component++) {
      const step = (high[component] - low[component]) / most;
      let whole = 0;
      for (let i = 0; i < count; i++) {
        // Differences to the number before, low bytes first, then high bytes.
        const difference = size === 1 ? bytes[start + i] : bytes[start + i] + 256 * bytes[start + count + i];
        whole = (whole + difference) & most;
        values[component * count + i] = low[component] + whole * step;
      }
      start += size * count;
    }
    found[name] = { count, components, values };
  }
  return found;
}

/** Position, covariance and colour of every splat, as the textures of the renderer hold them. */
function readScene(header, bytes) {
  const columns = readColumns(bytes, header.columns);
  const count = header.still + header.moving;
  const part = (name, component, i) => columns[name].values[component * columns[name].count + i];
  const splats = new Float32Array(count * 16);
  const scales = columns.log_scale.components;
  for (let i = 0; i < count; i++) {
    const depth = Math.exp(part("log_depth", 0, i));
    const texel = 16 * i;
    splats[texel] = part("direction", 0, i) * depth;
    splats[texel + 1] = part("direction", 1, i) * depth;
    splats[texel + 2] = depth;
    const scale = [0, 1, 2].map((axis) => Math.exp(part("log_scale", axis % scales, i)) * depth);
    splats[texel + 3] = Math.cbrt(scale[0] * scale[1] * scale[2]) / header.sigma_per_footprint;
    const turn = columns.rotation ? [0, 1, 2, 3].map((axis) => part("rotation", axis, i)) : [1, 0, 0, 0];
    splats.set(covariance(scale, turn), texel + 4);
    splats[texel + 10] = columns.window ? part("window", 0, i) : 0;
    splats[texel + 11] = columns.window ? part("window", 1, i) : 0;
    for (let channel = 0; channel < 3; channel++) splats[texel + 12 + channel] = part("colour", channel, i);
    splats[texel + 15] = part("opacity", 0, i);
  }
  const shared = header.shared;
  const weights = new Float32Array(header.moving * 16);
  for (let i = 0; i < header.moving; i++) {
    for (let k = 0; k < shared; k++) weights[16 * i + k] = part("weights", k, i);
  }
  return { count, still: header.still, splats, weights, shared, paths: header.paths, frames: header.frames };
}

/** xx, xy, xz, yy, yz, zz of R diag(scale^2) R^T; the turn is a quaternion w, x, y, z. */
function covariance(scale, turn) {
  const length = Math.hypot(...turn);
  const [w, x, y, z] = turn.map((value) => value / length);
  const rows = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const entry = (a, b) => scale.reduce((sum, s, k) => sum + rows[a][k] * rows[b][k] * s * s, 0);
  return [entry(0, 0), entry(0, 1), entry(0, 2), entry(1, 1), entry(1, 2), entry(2, 2)];
}

/** Shared paths at any time in frames: 16 x 3 numbers. Catmull-Rom: through every frame, without corners. */
function pathsAt(scene, time) {
  const last = scene.frames - 1;
  const moment = Math.min(Math.max(time, 0), last);
  const frame = Math.min(Math.floor(moment), Math.max(last - 1, 0));
  const t = moment - frame;
  const around = [frame - 1, frame, frame + 1, frame + 2].map((at) => Math.min(Math.max(at, 0), last));
  const share = [
    0.5 * (-t + 2 * t * t - t * t * t),
    0.5 * (2 - 5 * t * t + 3 * t * t * t),
    0.5 * (t + 4 * t * t - 3 * t * t * t),
    0.5 * (t * t * t - t * t),
  ];
  const values = new Float32Array(48);
  for (let k = 0; k < scene.shared; k++) {
    for (let axis = 0; axis < 3; axis++) {
      for (let one = 0; one < 4; one++) {
        values[3 * k + axis] += share[one] * scene.paths[k][around[one]][axis];
      }
    }
  }
  return values;
}

/** Centres of all splats at a time: what is sorted by depth. Those of still ones are written once. */
function centresAt(scene, paths, centres) {
  const { splats, weights, still, count, shared } = scene;
  for (let i = still; i < count; i++) {
    const depth = splats[16 * i + 2];
    let x = 0, y = 0, z = 0;
    for (let k = 0; k < shared; k++) {
      const weight = weights[16 * (i - still) + k];
      x += weight * paths[3 * k];
      y += weight * paths[3 * k + 1];
      z += weight * paths[3 * k + 2];
    }
    centres[3 * i] = splats[16 * i] + depth * x;
    centres[3 * i + 1] = splats[16 * i + 1] + depth * y;
    centres[3 * i + 2] = depth + depth * z;
  }
}

/** A camera of a path at any time in frames: its pose (rows of 3 x 4, world to camera) and intrinsics. */
function cameraAt(path, time) {
  const last = path.poses.length - 1;
  const moment = Math.min(Math.max(time, 0), last);
  const frame = Math.min(Math.floor(moment), Math.max(last - 1, 0));
  const next = Math.min(frame + 1, last);
  const t = moment - frame;
  const mix = (a, b) => a.map((value, i) => value + t * (b[i] - value));
  return {
    pose: t === 0 ? path.poses[frame] : rigid(mix(path.poses[frame], path.poses[next])),
    intrinsics: mix(path.intrinsics[frame], path.intrinsics[next]),
  };
}

/** The rotation of a mixed pose made orthonormal again, row by row. */
function rigid(pose) {
  const a = unit([pose[0], pose[1], pose[2]]);
  const along = [pose[4], pose[5], pose[6]];
  const b = unit(along.map((value, i) => value - dot(along, a) * a[i]));
  const c = cross(a, b);
  return [...a, pose[3], ...b, pose[7], ...c, pose[11]];
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / Math.hypot(...a));
