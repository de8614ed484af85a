// GET /                a page, with the number of requests so far
// GET /compute?n=20    n-th Fibonacci number and a key derived on libuv's thread pool, as JSON
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs/promises");
const http = require("node:http");

let requests = 0;

function fibonacci(n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

function derive(n) {
  return new Promise((resolve, reject) => {
    crypto.pbkdf2(String(n), "salt", 10000, 32, "sha256", (error, key) =>
      error ? reject(error) : resolve(key.toString("hex")));
  });
}

async function answer(request, response) {
  requests += 1;
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/") {
    const { size } = await fs.stat(__filename);
    response.setHeader("content-type", "text/plain");
    response.end(`request ${requests}, program of ${size} bytes\n`);
  } else if (url.pathname === "/compute") {
    const n = Math.min(Number(url.searchParams.get("n")) || 20, 30);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ n, fibonacci: fibonacci(n), key: await derive(n) }) + "\n");
  } else {
    response.statusCode = 404;
    response.end("not found\n");
  }
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => {
    console.error(error);
    response.statusCode = 500;
    response.end();
  });
});

// The first process of a container gets no default action for SIGTERM.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
// A busy machine may let it wait for longer than the five seconds after which it closes idle connections, and with them a request that has come.
server.keepAliveTimeout = 120_000;
server.listen(3000, () => console.log("listening on 3000"));
