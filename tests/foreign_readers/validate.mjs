// Prints what Khronos' glTF validator says of a file: node validate.mjs FILE [ISSUE that does not count ...]
import { readFileSync } from "node:fs";
import validator from "gltf-validator";

const [path, ...ignoredIssues] = process.argv.slice(2);
const report = await validator.validateBytes(new Uint8Array(readFileSync(path)), { ignoredIssues });
process.stdout.write(JSON.stringify(report.issues));
