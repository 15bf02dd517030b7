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
  refreshToken(form);
  if (form === touched) touched = null;
  form.dataset.sent = "1";
  setTimeout(() => { delete form.dataset.sent; }, 3000);
  if (form.matches("[data-keep]")) keep(form);
});

function refreshToken(form) {
  // signing in again in another window changed it
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
  if (token && form.elements.csrfmiddlewaretoken) form.elements.csrfmiddlewaretoken.value = token;
}

// Forms that take long to fill in (data-keep). Leaving one asks first. Sent by somebody whose session had ended, it waits
// in this tab until the same person has signed in, within an hour, and its page is open again.
const KEPT = "kept-form", KEPT_FOR = 60 * 60 * 1000;
let touched = null;

const here = () => location.pathname + location.search;

function keep(form) {
  const typed = [...new FormData(form)].filter(([name, value]) => name !== "csrfmiddlewaretoken" && typeof value === "string");
  sessionStorage.setItem(KEPT, JSON.stringify({ page: here(), person: labels.person, sentAt: Date.now(), typed }));
}

function giveBack() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept) return;
  if (!labels.person) { // the page to sign in
    sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, signedOut: true }));
    return;
  }
  const isTheirs = kept.signedOut && kept.person === labels.person && Date.now() - kept.sentAt < KEPT_FOR;
  const form = document.querySelector("form[data-keep]");
  if (isTheirs && kept.page !== here()) return; // on the way there
  sessionStorage.removeItem(KEPT);
  if (isTheirs && form) fillIn(form, kept.typed);
}

function fillIn(form, typed) {
  for (const field of form.elements) {
    const values = typed.filter(([name]) => name === field.name).map(([, value]) => value);
    if (["checkbox", "radio"].includes(field.type)) field.checked = values.includes(field.value);
    else if (values.length && field.type !== "submit") [field.value] = values;
  }
  touched = form;
  form.before(notice("tone-warn", labels.keptLabel));
}

function notice(kind, ...words) {
  const box = document.createElement("div"), text = document.createElement("p");
  box.className = `notice ${kind}`;
  box.setAttribute("role", "alert");
  text.append(...words);
  box.append(text);
  return box;
}

document.addEventListener("input", (event) => { touched = event.target.closest("form[data-keep]") ?? touched; });
window.addEventListener("beforeunload", (event) => { if (touched) event.preventDefault(); });

// What follows by itself learns that the session has ended; the page stays, for something may be typed on it.
document.addEventListener("signed-out", (event) => {
  if (document.querySelector(".signed-out")) return;
  const link = document.createElement("a");
  [link.href, link.target, link.textContent] = [event.detail.url, "_blank", labels.signInLabel];
  document.querySelector("main").prepend(notice("tone-warn signed-out", labels.signedOutLabel, " ", link));
});
document.addEventListener("htmx:afterSwap", () => document.querySelector(".signed-out")?.remove());

// django-allauth's passkey scripts end silently when the person cancels or the browser refuses.
document.addEventListener("allauth.error", () => {
  const form = document.querySelector("main form");
  if (!form || document.querySelector(".passkey-failed")) return;
  form.before(notice("tone-bad passkey-failed", labels.passkeyLabel));
});

document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
prepare(document);
document.querySelector(".error-summary")?.focus();
giveBack(); // last: a browser that keeps nothing for a site refuses it
