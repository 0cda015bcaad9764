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

async function update(section) {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const current = page.querySelector(`[data-live="${section.dataset.live}"]`);
  if (current) section.replaceWith(current); else section.remove();
}

setInterval(() => {
  const section = document.querySelector("[data-live]");
  if (section && !document.hidden) update(section).catch(() => {});
}, SECONDS * 1000);
