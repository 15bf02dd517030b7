// Conveniences; every page works without them: copy buttons, local times as tips, menus that close.
"use strict";

const labels = document.body.dataset;

function showCopyButtons(root) {
  if (!navigator.clipboard) return; // needs https or localhost
  for (const button of root.querySelectorAll("button.copy[hidden]")) button.hidden = false;
}

function addLocalTimes(root) {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  for (const time of root.querySelectorAll("time[data-local]")) time.title = form.format(new Date(time.dateTime));
}

function prepare(root) {
  showCopyButtons(root);
  addLocalTimes(root);
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  const text = button.firstChild;
  text.data = labels.copiedLabel;
  setTimeout(() => { text.data = labels.copyLabel; }, 2000);
}

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button);
  closeMenus(event.target.closest("details.menu"));
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.activeElement.closest("details.menu[open]");
  closeMenus();
  if (menu) menu.querySelector("summary").focus();
});

// A second click on a form that is on its way does nothing; after three seconds it may be sent again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "1";
  setTimeout(() => { delete form.dataset.sent; }, 3000);
});

// django-allauth's passkey scripts end silently when the person cancels or the browser refuses.
document.addEventListener("allauth.error", () => {
  const form = document.querySelector("main form");
  if (!form || document.querySelector(".passkey-failed")) return;
  const notice = document.createElement("p");
  notice.className = "notice tone-bad passkey-failed";
  notice.setAttribute("role", "alert");
  notice.textContent = labels.passkeyLabel;
  form.before(notice);
});

document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
prepare(document);
document.querySelector(".error-summary")?.focus();
