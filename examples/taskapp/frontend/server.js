// The page at /, its files below /static/, and the back end below /api/.
// BACKEND is the back end's address.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const BACKEND = new URL(process.env.BACKEND);
const LARGEST_BODY = 64 * 1024;
const TYPES = { ".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript" };
const HEADERS = {
  "content-security-policy": "default-src 'self'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};
const FORWARDED = ["accept", "content-type", "content-length"];
const RETURNED = ["content-type", "content-length", "content-disposition"];

const dist = path.join(__dirname, "dist");
const known = new Set(fs.readdirSync(dist));
const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });

function refuse(response, status, error) {
  response.writeHead(status, { ...HEADERS, "content-type": "application/json" });
  response.end(JSON.stringify({ error }));
}

function file(request, response, name) {
  // Only what the build made: no path of a request reaches the file system.
  if (!known.has(name)) return refuse(response, 404, "not found");
  const headers = { ...HEADERS, "content-type": TYPES[path.extname(name)] ?? "application/octet-stream" };
  const compressed = /\bgzip\b/.test(request.headers["accept-encoding"] ?? "") && known.has(`${name}.gz`);
  if (compressed) headers["content-encoding"] = "gzip";
  const stream = fs.createReadStream(path.join(dist, compressed ? `${name}.gz` : name));
  stream.on("open", () => stream.pipe(response.writeHead(200, headers)));
  stream.on("error", () => refuse(response, 500, "cannot read"));
}

function chosen(headers, names) {
  return Object.fromEntries(names.filter((name) => name in headers).map((name) => [name, headers[name]]));
}

function forward(request, response, target) {
  if ("transfer-encoding" in request.headers) return refuse(response, 411, "a length is needed");
  if (Number(request.headers["content-length"] ?? 0) > LARGEST_BODY) {
    response.setHeader("connection", "close");
    return refuse(response, 413, `larger than ${LARGEST_BODY} bytes`);
  }
  const options = { agent, method: request.method, path: target, headers: chosen(request.headers, FORWARDED) };
  const behind = http.request(BACKEND, options, (answer) => {
    response.writeHead(answer.statusCode, { ...HEADERS, ...chosen(answer.headers, RETURNED) });
    answer.pipe(response);
    answer.on("error", () => response.destroy());
  });
  behind.on("error", (error) => {
    console.error(`back end: ${error.code ?? error.message}`);
    if (response.headersSent) response.destroy();
    else refuse(response, 502, "the back end does not answer");
  });
  response.on("close", () => behind.destroy());
  request.pipe(behind);
}

const server = http.createServer((request, response) => {
  const target = request.url.split("?")[0];
  if (target.startsWith("/api/")) return forward(request, response, request.url.slice("/api".length));
  if (request.method !== "GET") return refuse(response, 405, "only GET");
  if (target === "/") return file(request, response, "index.html");
  if (target.startsWith("/static/")) return file(request, response, target.slice("/static/".length));
  refuse(response, 404, "not found");
});

// The first process of a container gets no default action for signals.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), 5000).unref();
  });
}
server.listen(8080, "0.0.0.0", () => console.log("listening on 8080"));
