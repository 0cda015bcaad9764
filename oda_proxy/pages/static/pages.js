// Buttons that copy, and lists of jobs that stay current. Pages work without this.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue; // only pages from this machine, or with TLS, may copy
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

const SECONDS = 5;

async function update(list) {
  const response = await fetch(list.dataset.live, { headers: { Accept: "text/html" } });
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const table = page.querySelector("table.jobs");
  list.replaceChildren(...(table ? [table] : []));
  list.closest("section").dataset.jobs = table ? "some" : "none";
}

setInterval(() => {
  const list = document.querySelector("[data-live]");
  if (list && !document.hidden) update(list).catch(() => {}); // the next time may do
}, SECONDS * 1000);
