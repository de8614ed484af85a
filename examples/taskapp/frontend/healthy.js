// The health check: status 0 when the page and the back end behind it answer.
"use strict";

const http = require("node:http");

const request = http.get("http://127.0.0.1:8080/api/health", { timeout: 5000 }, (response) => {
  process.exit(response.statusCode === 200 ? 0 : 1);
});
request.on("timeout", () => request.destroy(new Error("no answer")));
request.on("error", () => process.exit(1));
