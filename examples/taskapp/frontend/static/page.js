"use strict";

const list = document.getElementById("tasks");
const form = document.getElementById("add");

async function ask(method, path, body) {
  const headers = body ? { "content-type": "application/json" } : {};
  const answer = await fetch(`/api${path}`, { method, headers, body: body && JSON.stringify(body) });
  const result = answer.status === 204 ? null : await answer.json();
  document.getElementById("error").textContent = answer.ok ? "" : result.error;
  return result;
}

function item(task) {
  const line = document.createElement("li");
  line.className = task.done ? "done" : "";
  const done = Object.assign(document.createElement("input"), { type: "checkbox", checked: task.done });
  done.onchange = async () => {
    await ask("PATCH", `/tasks/${task.id}`, { done: done.checked, version: task.version });
    show();
  };
  const title = document.createElement("span");
  title.textContent = task.due ? `${task.title} (${task.due})` : task.title;
  line.append(done, title);
  return line;
}

async function show() {
  list.replaceChildren(...(await ask("GET", "/tasks")).map(item));
}

form.onsubmit = async (event) => {
  event.preventDefault();
  const { title, due } = Object.fromEntries(new FormData(form));
  await ask("POST", "/tasks", due ? { title, due } : { title });
  form.reset();
  show();
};
show();
