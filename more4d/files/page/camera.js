// The viewer's own camera: orbits around a point, flies, and takes over where a path of the item left it.
// Axes as in the scene: x right, y down, z forward; a pose is 3 x 4 by rows, world to camera.
"use strict";

class FreeCamera {
  /** `distance` to the point that is orbited, in metres. */
  constructor(distance) {
    this.home = distance;
    this.toPhoto();
  }

  toPhoto() {
    this.take([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]);
    this.distance = this.home;
  }

  /** Stand where `pose` stands. */
  take(pose) {
    this.axes = [0, 4, 8].map((row) => pose.slice(row, row + 3));
    this.eye = [0, 1, 2].map((k) => -[0, 1, 2].reduce((sum, row) => sum + this.axes[row][k] * pose[4 * row + 3], 0));
  }

  get pose() {
    return this.axes.flatMap((axis) => [...axis, -dot(axis, this.eye)]);
  }

  get pivot() {
    return this.eye.map((value, k) => value + this.distance * this.axes[2][k]);
  }

  /** Turn around the pivot: `right` around the world's vertical, `down` around the camera's x axis; radians. */
  orbit(right, down) {
    const pivot = this.pivot;
    this.turn(right, down);
    this.eye = pivot.map((value, k) => value - this.distance * this.axes[2][k]);
  }

  /** Look elsewhere from where one stands. */
  turn(right, down) {
    // Never over the top: there left and right would change places.
    const steep = Math.asin(Math.min(1, Math.max(-1, this.axes[2][1])));
    const tilt = Math.min(1.5, Math.max(-1.5, steep + down)) - steep;
    const level = this.axes[0];
    this.axes = this.axes.map((axis) => rotated(rotated(axis, level, -tilt), [0, 1, 0], right));
  }

  /** Move along the camera's own axes, in metres. */
  move(right, down, forward) {
    const along = [right, down, forward];
    this.eye = this.eye.map((value, k) => value + along.reduce((sum, step, axis) => sum + step * this.axes[axis][k], 0));
  }

  /** Nearer to the pivot by a factor below 1, away from it by one above. */
  approach(factor) {
    const pivot = this.pivot;
    this.distance = Math.min(Math.max(this.distance * factor, this.home / 50), this.home * 20);
    this.eye = pivot.map((value, k) => value - this.distance * this.axes[2][k]);
  }
}

/** A vector turned around a unit axis (Rodrigues). */
function rotated(vector, axis, angle) {
  const across = cross(axis, vector);
  const along = dot(axis, vector) * (1 - Math.cos(angle));
  return vector.map((value, k) => value * Math.cos(angle) + across[k] * Math.sin(angle) + axis[k] * along);
}

/** Intrinsics in pixels such that a picture of the item's shape fits into the window, whole and centred. */
function fitted(intrinsics, shape, size) {
  const [fx, fy, cx, cy] = intrinsics;
  const scale = Math.min(size[0] / shape[0], size[1] / shape[1]);
  const [width, height] = [shape[0] * scale, shape[1] * scale];
  return [fx * width, fy * height, size[0] / 2 + (cx - 0.5) * width, size[1] / 2 + (cy - 0.5) * height];
}
