// Keys, zoom of both pictures together and the blink overlay. Without it the page works by its forms and links.
"use strict";

const all = (selector) => [...document.querySelectorAll(selector)];
const pictures = document.querySelector("#pictures");
const frames = all(".frame");
const views = all("[data-view]");
let sent = false;

function show(view) {
  for (const link of views) {
    const on = link.dataset.view === view && !pictures.classList.contains(view);
    pictures.classList.toggle(link.dataset.view, on);
    link.setAttribute("aria-pressed", String(on));
  }
  pictures.classList.remove("by-hand", "turned");
  for (const frame of frames) {
    frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
    frame.scrollTop = (frame.scrollHeight - frame.clientHeight) / 2;
  }
}

function follow(frame) {
  for (const other of frames) {
    if (other.scrollLeft !== frame.scrollLeft) other.scrollLeft = frame.scrollLeft;
    if (other.scrollTop !== frame.scrollTop) other.scrollTop = frame.scrollTop;
  }
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("input, textarea, select")) return;
  const zoomed = pictures && pictures.classList.contains("zoom");
  if (event.shiftKey && zoomed && event.key.startsWith("Arrow")) {
    const step = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] }[event.key];
    frames[0].scrollBy(...step);
    event.preventDefault();
  } else if (event.key === " " && pictures && pictures.classList.contains("blink")) {
    pictures.classList.add("by-hand");
    pictures.classList.toggle("turned");
    event.preventDefault();
  } else if (!event.repeat) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const target = all("[data-key]").find((item) => item.dataset.key.split(" ").includes(key));
    // no verdict on pictures that are not there yet; one that cannot load counts as complete
    const waiting = target && target.name === "choice" && all("#pictures img").some((image) => !image.complete);
    if (target && !target.disabled && !waiting) target.click();
    if (target) event.preventDefault();
  }
}

document.addEventListener("keydown", pressed);
document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
window.addEventListener("pageshow", () => { sent = false; });

const help = document.querySelector("#help");
if (help) help.addEventListener("toggle", () => help.scrollIntoView({ block: "nearest" }));

for (const link of views) {
  link.setAttribute("aria-pressed", String(pictures !== null && pictures.classList.contains(link.dataset.view)));
  link.addEventListener("click", (event) => {
    event.preventDefault();
    if (pictures) show(link.dataset.view);
  });
}

for (const frame of frames) {
  let start = null;
  frame.addEventListener("scroll", () => follow(frame));
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse") return; // a finger scrolls
    start = [event.clientX + frame.scrollLeft, event.clientY + frame.scrollTop];
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (start) [frame.scrollLeft, frame.scrollTop] = [start[0] - event.clientX, start[1] - event.clientY];
  });
  frame.addEventListener("pointerup", () => { start = null; });
}
