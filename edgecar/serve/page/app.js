// The page of `edgecar serve`: asks for the cameras about once a second and shows them.

import { ask, ApiError, cameraPath, whenTokenIsNeeded } from "./api.js";
import { CameraCard } from "./camera.js";
import { line } from "./elements.js";
import { addForm, tokenForm } from "./forms.js";
import { Machine } from "./machine.js";
import { Turns } from "./turns.js";

const POLL_MS = 1000;
const LONGEST_POLL_MS = 8000; // where the server is away
const HISTORY_MS = { grid: 4000, large: 2000 };

const find = (id) => document.getElementById(id);
const main = find("cameras");
const machine = new Machine(find("sums"), find("version"));
const turns = new Turns();
const cards = new Map();
const seen = new IntersectionObserver(showSeen, { rootMargin: "64px" });
let networks = [];
let cameras = [];
let actions = 0; // what was asked before an action and answered after it is old

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function untilSeen() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

// The address says which camera is large: a phone's back gesture and a reload do what is expected.
function largeName() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function enlarge(name) {
  if (name === largeName()) return;
  const card = cards.get(largeName());
  history.pushState(null, "", name ? `#${encodeURIComponent(name)}` : location.pathname);
  showLarge();
  card?.element.scrollIntoView({ block: "nearest" });
  cards.get(name || card?.name)?.zoom.focus({ preventScroll: Boolean(!name) });
}

function showLarge() {
  const name = largeName();
  for (const card of cards.values()) if (card.large !== (card.name === name)) card.showLarge(!card.large);
  main.classList.toggle("one", cards.has(name));
  turns.review();
}

// Pictures are fetched while the picture is seen, plots while any part of the camera is.
function showSeen(entries) {
  for (const { target, isIntersecting } of entries) {
    const card = cards.get(target.closest(".camera")?.dataset.name);
    if (card?.element === target) card.onScreen = isIntersecting;
    else if (card?.picture.element === target) card.picture.onScreen = isIntersecting;
  }
  turns.review();
}

const page = {
  enlarge,
  toggle: (name) => enlarge(name === largeName() ? "" : name),
  acted(name, camera) {
    actions += 1;
    const others = cameras.filter((other) => other.name !== name);
    const place = cameras.findIndex((other) => other.name === name);
    if (camera) others.splice(place < 0 ? others.length : place, 0, camera);
    show(others);
  },
};

function addCard(name) {
  const card = new CameraCard(name, page);
  cards.set(name, card);
  turns.add(card.picture);
  seen.observe(card.element);
  seen.observe(card.picture.element);
  return card;
}

function removeCard(card) {
  seen.unobserve(card.element);
  seen.unobserve(card.picture.element);
  turns.remove(card.picture);
  if (card.element.contains(document.activeElement)) find("add").focus({ preventScroll: true });
  card.element.remove();
  cards.delete(card.name);
}

function show(list) {
  cameras = list;
  const names = new Set(list.map((camera) => camera.name));
  for (const card of [...cards.values()]) if (!names.has(card.name)) removeCard(card);
  list.forEach((camera, place) => {
    const card = cards.get(camera.name) ?? addCard(camera.name);
    card.update(camera, networks);
    // Moved only where it must be: what is moved loses the focus.
    if (main.children[place] !== card.element) main.insertBefore(card.element, main.children[place] ?? null);
  });
  main.dataset.count = list.length;
  find("empty").hidden = list.length > 0;
  showLarge();
}

function showHealth({ error, status }) {
  turns.paused = Boolean(error);
  document.body.classList.toggle("away", Boolean(error));
  let told = status?.draining ? "the server is stopping: it ends what it writes" : "";
  if (error) told = "server not reachable, trying again";
  if (error instanceof ApiError) told = `the server says: ${error.message}; trying again`;
  line(find("banner"), told);
}

async function poll() {
  const before = actions;
  const list = await ask("GET", "/api/cameras");
  const status = await ask("GET", "/api/status");
  networks = status.networks;
  return { list: before === actions ? list : cameras, status };
}

async function watch() {
  for (let failures = 0; ; ) {
    await untilSeen();
    const answered = await poll().catch((error) => ({ error }));
    failures = answered.error ? failures + 1 : 0;
    showHealth(answered);
    if (!answered.error) {
      show(answered.list);
      machine.show(answered.status, answered.list);
      find("add").disabled = false; // its form offers the networks, which are known from now on
    }
    await pause(Math.min(POLL_MS * 2 ** failures, LONGEST_POLL_MS));
  }
}

// One at a time: the pictures have four of the six connections, the cameras one.
async function watchHistory() {
  for (;;) {
    await untilSeen();
    const shown = [...cards.values()].filter((card) => card.onScreen);
    for (const card of shown) {
      const history = await ask("GET", cameraPath(card.name, "/history")).catch(() => null);
      if (history) card.plots.showHistory(history);
    }
    await pause(shown.length ? HISTORY_MS[main.classList.contains("one") ? "large" : "grid"] : POLL_MS);
  }
}

whenTokenIsNeeded(tokenForm(find("login-dialog")));
addForm(find("add-dialog"), find("add"), () => networks, (camera) => page.acted(camera.name, camera));
window.addEventListener("popstate", showLarge);
document.addEventListener("visibilitychange", () => turns.review());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) enlarge("");
});
watch();
watchHistory();
