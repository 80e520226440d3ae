"use strict";
// The only way in which this page makes elements. What the app sends becomes text nodes and plain attributes, never markup.

/** Make an element. Options are attributes, but for functions: those listen to the event of that name. */
function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

const byId = (id) => document.getElementById(id);

/** Link to a page of the documentation; nothing where the address is none. */
function pageLink(address, text) {
  if (!address || !/^https?:$/.test(URL.parse(address)?.protocol)) return null;
  return make(
    "a",
    { href: address, target: "_blank", rel: "noopener noreferrer", class: "page", "data-key": address },
    text,
  );
}

/** A text to type, with a button that copies it. */
function copyable(text, title) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce("Copied");
    } catch {
      getSelection().selectAllChildren(block);
      announce("Selected: copy it with your keyboard");
    }
  };
  const block = make("code", {}, text);
  const button = make(
    "button",
    { class: "copy", click: copy, "aria-label": `Copy: ${title}`, "data-key": `copy ${text}` },
    "Copy",
  );
  return make("div", { class: "copyable" }, block, button);
}

/** Tell what has happened, to those who see the page and to those who hear it: within a dialog, if one is open. */
function announce(text) {
  const announcement = byId("announcement");
  const host = document.querySelector("dialog[open]") ?? document.body;
  if (announcement.parentElement !== host) host.append(announcement);
  announcement.textContent = text;
  announcement.classList.add("shown");
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => announcement.classList.remove("shown"), 4000);
}

const drawn = new WeakMap();

/**
 * Draw a part of the page anew if its model has changed. An unchanged part is left alone, so that nobody loses the focus
 * or a selection. In one that has changed, the focus returns to the element with the same key, and details stay open.
 */
function redraw(container, model, draw) {
  const signature = JSON.stringify(model);
  if (drawn.get(container) === signature) return;
  drawn.set(container, signature);
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = new Set([...container.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  container.replaceChildren(...[draw(model)].flat(Infinity).filter(Boolean));
  for (const one of container.querySelectorAll("details")) one.open ||= open.has(one.dataset.key);
  if (focused === undefined) return;
  const keyed = [...container.querySelectorAll("[data-key]")];
  keyed.find((one) => one.dataset.key === focused)?.focus({ preventScroll: true });
}

/** Have an element change with time: `update` is called now and every second, while the element is in the page. */
function ticking(element, update) {
  element.dataset.ticks = "";
  element.tick = () => update(element);
  element.tick();
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => {
  if (!document.hidden) for (const one of document.querySelectorAll("[data-ticks]")) one.tick();
}, 1000);
