// Plays a GLB with three.js and prints, for each time in seconds, the points of every node: node play.mjs FILE TIME ...
import { readFileSync } from "node:fs";
import { AnimationMixer, Vector3 } from "three";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

globalThis.self = globalThis;
const [path, ...times] = process.argv.slice(2);
const file = readFileSync(path);
const bytes = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const { scene, animations } = await new GLTFLoader().parseAsync(bytes, "");
const mixer = new AnimationMixer(scene);
for (const clip of animations) mixer.clipAction(clip).play();

const place = new Vector3();
function points(object) {
  const { position, color } = object.geometry.attributes;
  const morphs = object.geometry.morphAttributes.position ?? [];
  const found = [];
  for (let i = 0; i < position.count; i++) {
    place.fromBufferAttribute(position, i);
    morphs.forEach((morph, k) => {
      const weight = object.morphTargetInfluences[k];
      place.x += weight * morph.getX(i);
      place.y += weight * morph.getY(i);
      place.z += weight * morph.getZ(i);
    });
    place.applyMatrix4(object.matrixWorld);
    found.push([...place.toArray(), color.getX(i), color.getY(i), color.getZ(i)]);
  }
  return { name: object.name, scale: object.scale.x, points: found };
}

const shown = times.map((time) => {
  mixer.setTime(Number(time));
  scene.updateMatrixWorld(true);
  const nodes = [];
  scene.traverse((object) => object.isPoints && nodes.push(points(object)));
  return nodes;
});
process.stdout.write(JSON.stringify({ duration: animations[0]?.duration ?? 0, times: shown }));
