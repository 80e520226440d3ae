"use strict";
// What is shown, kept in the page's address, so that a view can be shared and the browser goes back.

const VIEW = ["state", "hub", "text", "cluster", "operation"];

/** The view that the address names: an object with a text for each name, empty by default. */
function readView() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(VIEW.map((name) => [name, query.get(name) ?? ""]));
}

let view = readView();

/** The address of the view with these changes. */
function viewAddress(changes) {
  const address = new URL(location.href);
  for (const [name, value] of Object.entries({ ...view, ...changes })) {
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  }
  return address.pathname + address.search;
}

/** Show another view. A cluster or an operation is a step to go back from; a filter is not. */
function show(changes) {
  const isStep = "cluster" in changes || "operation" in changes;
  history[isStep ? "pushState" : "replaceState"](null, "", viewAddress(changes));
  view = { ...view, ...changes };
  drawAll();
}

/** A link to another view of this page, which also opens in a tab of its own. */
function viewLink(changes, text, options = {}) {
  const click = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    show(changes);
  };
  return make("a", { href: viewAddress(changes), click, "data-key": JSON.stringify(changes), ...options }, text);
}

const clusterLink = (id) => viewLink({ cluster: id, operation: "" }, clusterName(id));

addEventListener("popstate", () => {
  view = readView();
  drawAll();
});
