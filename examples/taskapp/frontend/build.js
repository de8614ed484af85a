// build.js FROM TO: copies each file of FROM to TO, with a compressed one beside it.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const zlib = require("node:zlib");

const [from, to] = process.argv.slice(2);
fs.mkdirSync(to, { recursive: true });
for (const name of fs.readdirSync(from)) {
  const content = fs.readFileSync(path.join(from, name));
  fs.writeFileSync(path.join(to, name), content);
  fs.writeFileSync(path.join(to, `${name}.gz`), zlib.gzipSync(content, { level: 9 }));
}
