// Sends the ethics document straight to the object store: one PUT whose length and SHA-256 are signed.
// The portal's own server never sees a byte of it.

const root = document.getElementById("ethics-document");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const picker = document.getElementById("document-file");

class Refused extends Error {}

const csrfToken = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    credentials: "same-origin",
    headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify(body),
  });
  if (response.redirected) throw new Refused(part("problem-text").dataset.signedOut); // to the page to sign in
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.detail || part("problem-text").dataset.refused);
  return answer;
}

function hash(file) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(root.dataset.worker, { type: "module" });
    worker.onerror = () => reject(new Refused(part("problem-text").dataset.unreadable));
    worker.onmessage = ({ data }) => {
      if ("done" in data) return;
      worker.terminate();
      if (data.error) reject(new Refused(part("problem-text").dataset.unreadable));
      else resolve(data.found.sha256);
    };
    worker.postMessage({ file, partSize: Number(root.dataset.maxBytes), what: "whole" });
  });
}

function put(url, headers, file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how far an upload is
    const refuse = () => reject(new Refused(part("problem-text").dataset.refused));
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => { part("bar").value = event.loaded / Math.max(1, event.total); };
    request.onload = () => (request.status < 300 ? resolve() : refuse());
    request.onerror = refuse;
    request.send(file);
  });
}

function say(phase) {
  part("progress").hidden = false;
  part("phase").textContent = part("phase").dataset[phase];
}

async function send(file) {
  part("problem").hidden = true;
  picker.disabled = true;
  try {
    if (file.size > Number(root.dataset.maxBytes)) throw new Refused(part("problem-text").dataset.large);
    say("hashing");
    const announced = { name: file.name, size_bytes: file.size, sha256: await hash(file) };
    const { id, url, headers } = await post(root.dataset.announce, announced);
    say("sending");
    await put(url, headers, file);
    await post(`${root.dataset.announce}${id}/complete/`, {});
    say("done");
    location.hash = "ethics-document";
    location.reload();
  } catch (error) {
    part("progress").hidden = true;
    part("problem").hidden = false;
    part("problem-text").textContent = error instanceof Refused ? error.message : part("problem-text").dataset.refused;
  } finally {
    picker.disabled = false;
    picker.value = "";
  }
}

part("pick").hidden = false;
picker.addEventListener("change", () => picker.files[0] && send(picker.files[0]));
